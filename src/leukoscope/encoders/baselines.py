from collections.abc import Sequence
from pathlib import Path

import timm

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import create_backbone
from leukoscope.encoders.bundle import Encoder, EncoderInfo, random_encoder
from leukoscope.encoders.timminfo import config_of


def open_encoder(
    spec: str, cellset: CellSet, *, size: int | None = None, seed: int = 0, truncate_after: int | None = None
) -> Encoder:
    """The encoder that ``spec`` names: a bundle's folder, or a baseline for cells like those of ``cellset``.

    ``random:NAME`` has random weights drawn from ``seed``; ``imagenet:NAME`` timm's pretrained weights, from its hub,
    and ``imagenet:NAME@FILE`` the same from a file; ``pretrained:NAME@FILE`` and ``pretrained:NAME@hf-hub:org/name``
    any others. Baselines take images of ``size``, the cells' own if None, and end after the stage ``truncate_after``,
    whole if None.

    Raises:
        InputError: when there is no such bundle, network or file.
    """
    kind, _, name = spec.partition(":")
    if kind == "random" and name:
        return random_encoder(name, cellset, size, seed, truncate_after=truncate_after)
    if kind in ("imagenet", "pretrained") and name:
        name, _, weights = name.partition("@")
        if kind == "pretrained" and not weights:
            raise InputError(f"{spec}: whose weights? give pretrained:{name}@FILE or pretrained:{name}@hf-hub:ORG/NAME")
        return pretrained_encoder(
            name, cellset, size, weights=weights or "imagenet", method=kind, truncate_after=truncate_after
        )
    if size is not None:
        raise InputError(f"--size {size}: {spec} is a bundle and brings its own size; leave --size out")
    if truncate_after is not None:
        raise InputError(f"--truncate-after {truncate_after}: {spec} is a bundle and ends where it was trained to")
    return Encoder.load(spec)


def open_encoders(
    given: Sequence[str], cellset: CellSet, *, size: int | None = None, seed: int = 0
) -> dict[str, Encoder]:
    """Encoders by name, given as :func:`open_encoder` takes them, or as ``NAME=SPEC``.

    Without a name a baseline is called by its kind and network, a bundle by its folder, or by the run that it lies in.
    ``size`` is that of the baselines; bundles bring their own.

    Raises:
        InputError: as :func:`open_encoder`, or when two encoders have one name.
    """
    found: dict[str, Encoder] = {}
    baselines = any(is_baseline(text.rpartition("=")[2]) for text in given)
    for text in given:
        name, separator, spec = text.partition("=")
        # A run of a sweep's trial has a = in its own name.
        named = bool(separator) and not Path(text).exists() and not is_baseline(text)
        spec = spec if named else text
        name = name if named else _name(spec)
        if name in found:
            raise InputError(f"{spec}: there is an encoder {name!r} already; name it with NAME={spec}")
        found[name] = open_encoder(spec, cellset, size=size if is_baseline(spec) or not baselines else None, seed=seed)
    return found


def pretrained_encoder(
    name: str,
    cellset: CellSet,
    size: int | None = None,
    *,
    weights: str | Path = "imagenet",
    method: str = "imagenet",
    truncate_after: int | None = None,
) -> Encoder:
    """The transfer baseline: backbone ``name`` with pretrained RGB weights for cells like those of ``cellset``.

    Grey and RGB cells are normalised as the weights expect (grey by the mean over RGB, the rest folded into the stem);
    cells of other channel counts by their own mean and std, as no channel is a colour. Weights that are known by the
    names of their tensors bring their own name as the ``method``, and their licence.
    """
    size = size or max(cellset.info.height, cellset.info.width)
    backbone = create_backbone(
        name, channels=cellset.channels, weights=weights, seed=0, size=size, truncate_after=truncate_after
    )
    config = config_of(backbone)
    licence = config["license"]
    if licence is None and method == "imagenet":  # a file of timm's own weights
        licence = timm.get_pretrained_cfg(name).license
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    if cellset.channels == 3:
        mean, std = tuple(config["mean"]), tuple(config["std"])
    elif cellset.channels == 1:
        mean, std = (sum(config["mean"]) / 3,), (sum(config["std"]) / 3,)
    info = EncoderInfo.of(
        cellset,
        backbone,
        timm_name=name,
        truncate_after=truncate_after,
        size=size,
        method=method if weights == "imagenet" else config["tag"] or method,
        mean=mean,
        std=std,
        recipe={"weights": Path(weights).name if Path(weights).exists() else str(weights)},
        licence=licence or "unknown",
    )
    return Encoder(backbone, info)


def is_baseline(spec: str) -> bool:
    """Whether ``spec`` names a network that is made for the cells, and no bundle."""
    return spec.startswith(("random:", "imagenet:", "pretrained:"))


def _name(spec: str) -> str:
    if is_baseline(spec):
        return spec.partition("@")[0].replace(":", " ")
    folder = Path(spec).resolve()
    return folder.parent.name if folder.name == "encoder" else folder.name
