from typing import Any

import torch
from lightly.utils.lars import LARS
from timm.optim import Lars
from torch import nn

from leukoscope.training.settings import TrainSettings


def create_optimiser(module: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser of everything in ``module`` that takes a gradient.

    SGD decays every weight, as MoCo's authors do. AdamW and LARS leave biases and norms undecayed, as theirs do
    (lightly's LARS then leaves them unscaled, too: SimCLR, section 2.2). LARC (You et al. 2017, as NVIDIA's apex
    and VISSL have it) decays every weight and multiplies the rate of every tensor by 0.001 times the norm of its
    weights over that of gradient and decay; clipped, that product is at most ``lr``.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decay = {"weight_decay": settings.weight_decay, "decayed": True}
    every: list[dict[str, Any]] = [{"params": parameters, **decay}]
    common: dict[str, Any] = {"lr": settings.lr, "momentum": settings.momentum}
    if settings.optimiser in ("sgd", "nesterov"):
        return torch.optim.SGD(every, nesterov=settings.optimiser == "nesterov", **common)
    if settings.optimiser == "larc":
        larc: torch.optim.Optimizer = Lars(every, trust_clip=settings.larc_clip, always_adapt=True, **common)
        return larc
    apart = [
        {"params": [p for p in parameters if p.ndim > 1], **decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "decayed": False},
    ]
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(apart, lr=settings.lr, betas=(settings.momentum, 0.999))
    lars: torch.optim.Optimizer = LARS(apart, **common)
    return lars
