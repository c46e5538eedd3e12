from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Directions with less than this share of the largest variance are rounding, not signal.
_NEGLIGIBLE = 1e-7


@dataclass(frozen=True)
class Bases:
    """Principal axes of F training sets: a cell's coordinates are ``axes @ (x - mean)``.

    ``mean`` is ``(F, D)``, ``axes`` ``(F, D, D)`` one axis a row, already divided by the standard deviations of the
    features where these are standardised, ``variances`` ``(F, D)`` along the axes, 0 where a training set does not
    vary. A rotation leaves the norm of coefficients, and so an L2 penalty, as it is; along principal axes the curvature
    of a linear model's loss is close to diagonal, and a diagonal is a good preconditioner.
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor

    @classmethod
    def of(cls, x: Tensor, training: Sequence[Tensor], *, standardise: bool = True) -> "Bases":
        """The axes of each training set (rows of ``x`` ``(N, D)``), of its own cells alone."""
        found = [principal(x[rows], standardise=standardise) for rows in training]
        return cls(*(torch.stack(each) for each in zip(*found, strict=True)))

    def unfold(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``(F, K, D)`` and biases ``(F, K)`` for features as they come, of ``theta`` ``(F, K, D + 1)``."""
        weight = theta[..., :-1] @ self.axes
        return weight, theta[..., -1] - (weight @ self.mean[..., None])[..., 0]


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(D,)`` of cells ``(n, D)``; 1 for a feature that does not vary."""
    mean = x.mean(dim=0)
    std = (x - mean).square().mean(dim=0).sqrt()
    return mean, torch.where(std > 1e-6 * std.max(), std, torch.ones_like(std))


def principal(x: Tensor, *, standardise: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Mean ``(D,)``, axes ``(D, D)`` and variances ``(D,)`` of one training set ``(n, D)``, the largest one last."""
    mean, std = moments(x)
    std = std if standardise else torch.ones_like(std)
    standard = (x - mean) / std
    variances, axes = torch.linalg.eigh(standard.T @ standard / len(x))
    keep = variances > _NEGLIGIBLE * variances[-1].clamp_min(_NEGLIGIBLE)
    return mean, axes.T / std, torch.where(keep, variances, 0.0)
