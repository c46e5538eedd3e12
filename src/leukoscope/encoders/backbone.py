import difflib
import importlib
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from leukoscope.common.errors import InputError
from leukoscope.encoders import convstem  # noqa: F401 (registers a network with timm)
from leukoscope.encoders.conversions import convert
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.encoders.smallmaps import speed_up_small_maps
from leukoscope.encoders.stem import adapt_stem
from leukoscope.encoders.timminfo import config_of
from leukoscope.encoders.truncation import truncate
from leukoscope.encoders.weights import HUB, read_hub, read_weights

# How far the smallest side is looked for that a network takes.
_LARGEST_TRIED = 300


def create_backbone(
    name: str,
    *,
    channels: int,
    weights: str | Path = "random",
    seed: int,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    drop_path: float = 0.0,
    truncate_after: int | None = None,
) -> nn.Module:
    """A timm network without classifier: ``(B, channels, H, W)`` float32 in, features ``(B, num_features)`` out.

    Residual branches start as the authors of MoCo and lightly start them, not at zero as timm does: with random weights
    such a network is hardly more than strided sampling (60 instead of 69 % linear probe on ``pbc``, 64 px).

    Args:
        name: timm's name, for example ``resnet18`` or ``vit_small_patch16_224``.
        channels: channels of the images; see :func:`~leukoscope.encoders.stem.adapt_stem` for pretrained weights.
        weights: ``random``, ``imagenet`` (timm's default weights, from its hub), ``hf-hub:org/name``, or a file; in
            timm's names or in those of :func:`~leukoscope.encoders.conversions.convert`.
        seed: seed of the random weights; the global random state is neither read nor moved.
        size: side of the images in pixels; transformers with position embeddings are built for it.
        mean: how the input will be normalised, one value a channel; pretrained weights are adapted to it.
        std: as ``mean``.
        drop_path: how often a residual branch of the last block is dropped in training; less often in those before it.
        truncate_after: the stage after which the network ends, as :func:`~leukoscope.encoders.truncation.truncate`
            counts them; its first weights are those of the whole network. None keeps it whole.

    Raises:
        InputError: when timm has no such network, it cannot take the size, the weights cannot be had, or there is no
            such stage.
    """
    if not timm.is_model(name) or ":" in name:
        close = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"backbone {name!r}: timm has none of that name{hint}")
    if channels < 1:
        raise InputError(f"backbone {name}: channels is {channels}; at least 1 is needed")
    if weights == "random":
        backbone = _build(name, channels, seed, size, drop_path)
        config_of(backbone).update(tag=None, license=None)
    elif weights == "imagenet":
        backbone = _build_pretrained(name, seed, size, drop_path)
    else:
        backbone = _build(name, 3, seed, size, drop_path)
        _load(backbone, str(weights), name)
    if weights != "random" and (channels != 3 or mean is not None or std is not None):
        adapt_stem(backbone, channels, mean=mean, std=std)
    if truncate_after is not None:
        truncate(backbone, truncate_after, name)
    return backbone


def outline(name: str) -> nn.Module:
    """The network that timm calls ``name``, without weights or cost, to see how it is built; nothing if it has none."""
    with torch.device("meta"):
        return timm.create_model(name) if timm.is_model(name) else nn.Identity()


def feature_width(backbone: nn.Module) -> int:
    """How many features a cell has: D of what ``backbone`` gives, ``(B, D)``."""
    return int(backbone.num_features)  # type: ignore[arg-type]


def _build(
    name: str, channels: int, seed: int, size: int | None, drop_path: float, *, pretrained: bool = False
) -> nn.Module:
    options: dict[str, Any] = {"in_chans": channels, "num_classes": 0, "pretrained": pretrained}
    if drop_path:
        options["drop_path_rate"] = drop_path
    config = timm.get_pretrained_cfg(name)
    fixed = config is not None and config.fixed_input_size
    if fixed and size is not None:
        options["img_size"] = size
    if name.startswith("vit_"):
        # Views of other sizes than ``size`` (local crops) pass too: position embeddings are resampled on the way.
        options["dynamic_img_size"] = True
    if name in timm.list_models(module="resnet"):
        options["zero_init_last"] = False
    with seeded_weights(seed):
        try:
            backbone: nn.Module = timm.create_model(name, **options)
            if fixed and size is not None:
                # Some transformers notice only in the forward pass that a size is no multiple of their patches.
                _try_once(backbone, channels, size)
        except (AssertionError, ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or "timm refuses"
            raise InputError(f"backbone {name} at {size} px: {reason}; choose another --size") from None
    if size is not None and not fixed:
        _refuse_small(backbone, name, channels, size)
    # Some networks widen their features once more after pooling; num_features is what forward returns.
    backbone.num_features = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    return speed_up_small_maps(backbone)


def _try_once(backbone: nn.Module, channels: int, size: int) -> None:
    """Raise what ``backbone`` raises on images of ``size``; only shapes are computed, on torch's meta device."""
    state = {name: tensor.to("meta") for name, tensor in [*backbone.named_parameters(), *backbone.named_buffers()]}
    training = backbone.training
    try:
        with torch.no_grad():
            torch.func.functional_call(backbone.eval(), state, torch.empty(1, channels, size, size, device="meta"))
    finally:
        backbone.train(training)


def _refuse_small(backbone: nn.Module, name: str, channels: int, size: int) -> None:
    """Refuse images of which some layer leaves no pixel, and say from what side on there is one."""

    def takes(side: int) -> bool:
        try:
            _try_once(backbone, channels, side)
        except RuntimeError:
            return False
        return True

    if takes(size):
        return
    sides = range(size, _LARGEST_TRIED)
    enough = bisect_left(sides, True, key=takes)
    if enough < len(sides):
        raise InputError(f"backbone {name} at {size} px: it needs at least {sides[enough]} px; choose another --size")


def _build_pretrained(name: str, seed: int, size: int | None, drop_path: float) -> nn.Module:
    config = timm.get_pretrained_cfg(name)
    source = (config.hf_hub_id or config.url) if config else None
    if source is None:
        raise InputError(f"backbone {name}: timm has no pretrained weights for it; use random ones, or give a file")
    try:
        return _build(name, 3, seed, size, drop_path, pretrained=True)
    except InputError:
        raise
    except Exception as error:  # the hub's client raises what its transport raises
        raise InputError(
            f"backbone {name}: its ImageNet weights cannot be fetched ({type(error).__name__}); download "
            f"model.safetensors of {source} elsewhere and give the file's path instead of 'imagenet'"
        ) from None


def _load(backbone: nn.Module, source: str, name: str) -> None:
    """Load weights from the hub or a file; the classifier in them is left out, anything else must fit.

    What is known of them takes the place of timm's ``pretrained_cfg``.
    """
    tensors, known = read_hub(source) if source.startswith(HUB) else (read_weights(Path(source)), {})
    tensors, origin = convert(tensors, backbone)
    hint = f"; they look like those of {origin.name}: take backbone {origin.backbone}" if origin else ""
    # Each family's own filter resamples position embeddings to the size and renames what older releases named else.
    adapt = getattr(importlib.import_module(type(backbone).__module__), "checkpoint_filter_fn", None)
    try:
        tensors = adapt(tensors, backbone) if adapt is not None else tensors
        classifier = _classifier_names(backbone)
        tensors = {key: value for key, value in tensors.items() if not key.startswith(classifier)}
        problem = backbone.load_state_dict(tensors, strict=False)
    except (AttributeError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{source}: not the weights of {name} ({reason[:120]}...){hint}") from None
    stray = [*problem.missing_keys, *problem.unexpected_keys]
    if stray:
        raise InputError(
            f"{source}: not the weights of {name}: {len(stray)} tensors missing or unknown, first {stray[0]}{hint}"
        )
    if origin is not None:
        known = {"tag": origin.name, "license": origin.licence, "mean": origin.mean, "std": origin.std}
    kept = {key: known[key] for key in ("mean", "std") if key in known}
    config_of(backbone).update(tag=known.get("tag"), license=known.get("license"), **kept)


def _classifier_names(backbone: nn.Module) -> tuple[str, ...]:
    names = config_of(backbone).get("classifier") or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))
