from typing import Any

from torch import nn


def layers_of(backbone: nn.Module) -> list[dict[str, Any]]:
    """Timm's list of the layers of ``backbone`` that can be read, first to last: ``module``, ``reduction``, width.

    A transformer lists its blocks, any other network its stages, some with the stem before them.
    """
    info = backbone.feature_info
    layers: list[dict[str, Any]] = info if isinstance(info, list) else info.info  # type: ignore[assignment, union-attr]
    return layers


def config_of(backbone: nn.Module) -> dict[str, Any]:
    """What timm knows of ``backbone`` and its weights: ``mean``, ``std``, ``license``, ``tag``, ``first_conv``..."""
    config: dict[str, Any] = backbone.pretrained_cfg  # type: ignore[assignment]
    return config
