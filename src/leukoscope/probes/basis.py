from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# Directions with less than this share of the largest variance are rounding, not signal.
_NEGLIGIBLE = 1e-7


@dataclass(frozen=True)
class Bases:
    """Principal axes of F training sets: a cell's coordinates are ``axes @ (x - mean)``.

    ``mean`` is ``(F, D)``, ``axes`` ``(F, r, D)`` one axis a row, already divided by the standard deviations of the
    features where these are standardised, ``variances`` ``(F, r)`` along the axes, 0 where a training set does not
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
        most = max(len(variances) for _, _, variances in found)
        return cls(
            torch.stack([mean for mean, _, _ in found]),
            torch.stack([F.pad(axes, (0, 0, most - len(axes), 0)) for _, axes, _ in found]),
            torch.stack([F.pad(variances, (most - len(variances), 0)) for _, _, variances in found]),
        )

    def unfold(self, theta: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``(F, K, D)`` and biases ``(F, K)`` for features as they come, of those along the axes."""
        weight = theta @ self.axes
        return weight, bias - (weight @ self.mean[..., None])[..., 0]


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(D,)`` of cells ``(n, D)``; 1 for a feature that does not vary."""
    mean = x.mean(dim=0)
    std = (x - mean).square().mean(dim=0).sqrt()
    return mean, torch.where(std > 1e-6 * std.max(), std, torch.ones_like(std))


def principal(x: Tensor, *, standardise: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Mean ``(D,)``, axes ``(r, D)`` and variances ``(r,)`` of one training set ``(n, D)``, the largest one last.

    There are as many axes as features, or as cells where these are fewer: cells span no more.
    """
    mean, std = moments(x)
    std = std if standardise else torch.ones_like(std)
    standard = (x - mean) / std
    few = len(x) < x.shape[1]
    variances, axes = torch.linalg.eigh((standard @ standard.T if few else standard.T @ standard) / len(x))
    keep = variances > _NEGLIGIBLE * variances[-1].clamp_min(_NEGLIGIBLE)
    axes = axes.T
    if few:
        axes = torch.where(keep[:, None], axes @ standard / (len(x) * variances[:, None]).clamp_min(1e-30).sqrt(), 0.0)
    return mean, axes / std, torch.where(keep, variances, 0.0)
