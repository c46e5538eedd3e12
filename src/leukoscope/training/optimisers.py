from typing import Any

import torch
from lightly.utils.lars import LARS
from torch import nn

from leukoscope.training.settings import TrainSettings


def create_optimiser(module: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser of everything in ``module`` that takes a gradient.

    SGD decays every weight, as MoCo's authors do. AdamW and LARS leave biases and norms undecayed, as theirs do
    (lightly's LARS then leaves them unscaled, too: SimCLR, section 2.2).
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if settings.optimiser in ("sgd", "nesterov"):
        return torch.optim.SGD(
            parameters,
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.optimiser == "nesterov",
        )
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.momentum, 0.999))
    lars: torch.optim.Optimizer = LARS(groups, lr=settings.lr, momentum=settings.momentum)
    return lars
