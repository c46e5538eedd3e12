from collections.abc import Sequence
from pathlib import Path

import timm

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import create_backbone
from leukoscope.encoders.bundle import Encoder, EncoderInfo, random_encoder


def open_encoder(
    spec: str, cellset: CellSet, *, size: int | None = None, seed: int = 0, truncate_after: int | None = None
) -> Encoder:
    """The encoder that ``spec`` names: a bundle's folder, or a baseline for cells like those of ``cellset``.

    ``random:NAME`` has random weights drawn from ``seed``; ``imagenet:NAME`` timm's pretrained weights, from its hub,
    and ``imagenet:NAME@FILE`` the same from a file. Baselines take images of ``size``, the cells' own if None,
    and end after the stage ``truncate_after``, whole if None.

    Raises:
        InputError: when there is no such bundle, network or file.
    """
    kind, _, name = spec.partition(":")
    if kind == "random" and name:
        return random_encoder(name, cellset, size, seed, truncate_after=truncate_after)
    if kind == "imagenet" and name:
        name, _, file = name.partition("@")
        weights = Path(file) if file else "imagenet"
        return imagenet_encoder(name, cellset, size, weights=weights, truncate_after=truncate_after)
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
    baselines = any(_is_baseline(text.rpartition("=")[2]) for text in given)
    for text in given:
        name, separator, spec = text.partition("=")
        # A run of a sweep's trial has a = in its own name.
        named = bool(separator) and not Path(text).exists() and not _is_baseline(text)
        spec = spec if named else text
        name = name if named else _name(spec)
        if name in found:
            raise InputError(f"{spec}: there is an encoder {name!r} already; name it with NAME={spec}")
        found[name] = open_encoder(spec, cellset, size=size if _is_baseline(spec) or not baselines else None, seed=seed)
    return found


def imagenet_encoder(
    name: str,
    cellset: CellSet,
    size: int | None = None,
    *,
    weights: str | Path = "imagenet",
    truncate_after: int | None = None,
) -> Encoder:
    """The transfer baseline: backbone ``name`` with pretrained RGB weights for cells like those of ``cellset``.

    Grey and RGB cells are normalised as the weights expect (grey by the mean over RGB, the rest folded into the stem);
    cells of other channel counts by their own mean and std, as no channel is a colour.
    """
    size = size or max(cellset.info.height, cellset.info.width)
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    if config is not None and cellset.channels == 3:
        mean, std = tuple(config.mean), tuple(config.std)
    elif config is not None and cellset.channels == 1:
        mean, std = (sum(config.mean) / 3,), (sum(config.std) / 3,)
    backbone = create_backbone(
        name,
        channels=cellset.channels,
        weights=weights,
        seed=0,
        size=size,
        mean=mean,
        std=std,
        truncate_after=truncate_after,
    )
    licence = (config.license if config is not None else None) or "unknown"
    info = EncoderInfo.of(
        cellset,
        backbone,
        timm_name=name,
        truncate_after=truncate_after,
        size=size,
        method="imagenet",
        mean=mean,
        std=std,
        licence=licence,
    )
    return Encoder(backbone, info)


def _is_baseline(spec: str) -> bool:
    return spec.startswith(("random:", "imagenet:"))


def _name(spec: str) -> str:
    if _is_baseline(spec):
        return spec.partition("@")[0].replace(":", " ")
    folder = Path(spec).resolve()
    return folder.parent.name if folder.name == "encoder" else folder.name
