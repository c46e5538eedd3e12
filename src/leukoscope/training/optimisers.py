from typing import Any

import torch
from lightly.utils.lars import LARS
from timm.optim import Lars, param_groups_layer_decay
from torch import nn

from leukoscope.training.settings import TrainSettings

_TRUST, _TRUST_EPS = 0.001, 1e-8  # of LARC, as apex has them


def create_optimiser(module: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser of everything in ``module`` that takes a gradient.

    SGD decays every weight, as MoCo's authors do. AdamW and LARS leave biases and norms undecayed, as theirs do
    (lightly's LARS then leaves them unscaled, too: SimCLR, section 2.2). LARC (You et al. 2017, as NVIDIA's apex
    and VISSL have it) decays every weight and multiplies the rate of every tensor by 0.001 times the norm of its
    weights over that of gradient and decay; clipped, that product is at most ``lr``. ``larc-adamw`` is the same around
    AdamW (:class:`LARCAdamW`). With ``layer_decay`` the rate falls from layer to layer of the encoder (BEiT; DINOv2),
    with ``patch_rate`` that of the patch embedding is so much lower still; heads keep the full one.
    """
    apart = settings.optimiser in ("adamw", "larc-adamw", "lars")
    groups = _groups(module, settings, spare_vectors=apart)
    common: dict[str, Any] = {"lr": settings.lr, "momentum": settings.momentum}
    if settings.optimiser in ("sgd", "nesterov"):
        return torch.optim.SGD(groups, nesterov=settings.optimiser == "nesterov", **common)
    if settings.optimiser == "larc":
        larc: torch.optim.Optimizer = Lars(groups, trust_clip=settings.larc_clip, always_adapt=True, **common)
        return larc
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.momentum, 0.999))
    if settings.optimiser == "larc-adamw":
        return LARCAdamW(groups, lr=settings.lr, betas=(settings.momentum, 0.999), trust_clip=settings.larc_clip)
    lars: torch.optim.Optimizer = LARS(groups, **common)
    return lars


class LARCAdamW(torch.optim.AdamW):
    """AdamW whose gradients LARC has scaled, as NVIDIA's apex wraps any optimiser: aml-ssl-mil trains DINO so.

    Every gradient takes up the weight decay, which AdamW then no longer applies apart, and is multiplied by 0.001 times
    the norm of its weights over that of gradient and decay; clipped, by that over the rate and at most by 1. AdamW
    divides a gradient by its usual size, so that what the scaling leaves is how much a tensor's steps weigh in it.
    """

    def __init__(self, groups: list[dict[str, Any]], *, trust_clip: bool, **settings: Any) -> None:
        super().__init__(groups, **settings)
        self.trust_clip = trust_clip

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Scale the gradients and step; the weight decay of every group stays what it was."""
        decays = [group["weight_decay"] for group in self.param_groups]
        for group, decay in zip(self.param_groups, decays, strict=True):
            for weight in group["params"]:
                if weight.grad is not None:
                    self._adapt(weight, decay, group["lr"])
            group["weight_decay"] = 0.0
        try:
            return super().step(closure)
        finally:
            for group, decay in zip(self.param_groups, decays, strict=True):
                group["weight_decay"] = decay

    def _adapt(self, weight: nn.Parameter, decay: float, lr: float) -> None:
        assert weight.grad is not None
        size, slope = weight.norm(), weight.grad.norm()
        trust = _TRUST * size / (slope + decay * size + _TRUST_EPS)
        if self.trust_clip:
            trust = (trust / lr).clamp(max=1.0)
        # Where either norm is zero apex leaves the gradient as it is.
        moves = (size > 0) & (slope > 0)
        weight.grad.copy_(torch.where(moves, trust * (weight.grad + decay * weight), weight.grad))


def _groups(module: nn.Module, settings: TrainSettings, *, spare_vectors: bool) -> list[dict[str, Any]]:
    """What takes a gradient, by whether it is decayed and by the ``scale`` of its rate; ``schedule`` reads both."""
    scales = _scales(module, settings)
    found: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 or not spare_vectors
            found.setdefault((decayed, scales.get(parameter, 1.0)), []).append(parameter)
    return [
        {"params": each, "weight_decay": settings.weight_decay if decayed else 0.0, "decayed": decayed, "scale": scale}
        for (decayed, scale), each in found.items()
    ]


def _scales(module: nn.Module, settings: TrainSettings) -> dict[nn.Parameter, float]:
    """The scale of the rate of weights of the timm networks that ``module`` trains; those not named have 1.

    ``layer_decay`` to the power of the layers above, times ``patch_rate`` in the patch embedding. Layers are timm's,
    which counts the last norm to the last block: the authors of DINOv2 begin one step lower.
    """
    scales: dict[nn.Parameter, float] = {}
    for network in (part for part in module.modules() if hasattr(part, "group_matcher")):
        if settings.layer_decay is not None:
            for group in param_groups_layer_decay(network, layer_decay=settings.layer_decay):
                scales.update(dict.fromkeys(group["params"], group["lr_scale"]))
        if isinstance(embedding := getattr(network, "patch_embed", None), nn.Module):
            for weight in embedding.parameters():
                scales[weight] = scales.get(weight, 1.0) * settings.patch_rate
    return scales
