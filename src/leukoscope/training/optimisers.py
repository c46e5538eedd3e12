from typing import Any

import torch
from lightly.utils.lars import LARS
from timm.optim import Lars, param_groups_layer_decay
from torch import nn

from leukoscope.training.settings import TrainSettings


def create_optimiser(module: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser of everything in ``module`` that takes a gradient.

    SGD decays every weight, as MoCo's authors do. AdamW and LARS leave biases and norms undecayed, as theirs do
    (lightly's LARS then leaves them unscaled, too: SimCLR, section 2.2). LARC (You et al. 2017, as NVIDIA's apex
    and VISSL have it) decays every weight and multiplies the rate of every tensor by 0.001 times the norm of its
    weights over that of gradient and decay; clipped, that product is at most ``lr``. With ``layer_decay`` the rate
    falls from layer to layer of the encoder (BEiT; DINOv2); heads keep the full one.
    """
    apart = settings.optimiser in ("adamw", "lars")
    groups = _groups(module, settings, spare_vectors=apart)
    common: dict[str, Any] = {"lr": settings.lr, "momentum": settings.momentum}
    if settings.optimiser in ("sgd", "nesterov"):
        return torch.optim.SGD(groups, nesterov=settings.optimiser == "nesterov", **common)
    if settings.optimiser == "larc":
        larc: torch.optim.Optimizer = Lars(groups, trust_clip=settings.larc_clip, always_adapt=True, **common)
        return larc
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.momentum, 0.999))
    lars: torch.optim.Optimizer = LARS(groups, **common)
    return lars


def _groups(module: nn.Module, settings: TrainSettings, *, spare_vectors: bool) -> list[dict[str, Any]]:
    """What takes a gradient, by whether it is decayed and by the ``scale`` of its rate; ``schedule`` reads both."""
    scales = _layer_scales(module, settings.layer_decay)
    found: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 or not spare_vectors
            found.setdefault((decayed, scales.get(parameter, 1.0)), []).append(parameter)
    return [
        {"params": each, "weight_decay": settings.weight_decay if decayed else 0.0, "decayed": decayed, "scale": scale}
        for (decayed, scale), each in found.items()
    ]


def _layer_scales(module: nn.Module, decay: float | None) -> dict[nn.Parameter, float]:
    """The scale of each weight of the timm network that ``module`` trains: ``decay`` to the power of the layers above.

    Layers are timm's, which counts the last norm to the last block: the authors of DINOv2 begin one step lower.
    """
    if decay is None:
        return {}
    networks = [part for part in module.modules() if hasattr(part, "group_matcher")]
    groups = [group for network in networks for group in param_groups_layer_decay(network, layer_decay=decay)]
    return {parameter: group["lr_scale"] for group in groups for parameter in group["params"]}
