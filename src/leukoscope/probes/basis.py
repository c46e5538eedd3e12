from dataclasses import dataclass

import torch
from torch import Tensor

# Directions with less than this share of the largest variance are rounding, not signal.
_NEGLIGIBLE = 1e-7


@dataclass(frozen=True)
class Basis:
    """Standardised principal axes of some cells: ``(x - mean) / std @ axes`` has variances ``variances``.

    A rotation leaves the norm of coefficients, and so an L2 penalty, as it is; along principal axes the curvature of
    a linear model's loss is close to diagonal, and a diagonal is a good preconditioner. Directions in which the cells
    do not vary are left out: the penalty holds their coefficients at zero.
    """

    mean: Tensor
    std: Tensor
    axes: Tensor
    variances: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "Basis":
        """The axes of cells ``x`` ``(n, D)``, of these cells alone."""
        mean = x.mean(dim=0)
        std = (x - mean).square().mean(dim=0).sqrt()
        std = torch.where(std > 1e-6 * std.max(), std, torch.ones_like(std))
        standard = (x - mean) / std
        variances, axes = torch.linalg.eigh(standard.T @ standard / len(x))
        keep = variances > _NEGLIGIBLE * variances[-1].clamp_min(_NEGLIGIBLE)
        return cls(mean, std, axes[:, keep], variances[keep])

    def transform(self, x: Tensor) -> Tensor:
        """Coordinates ``(n, d + 1)`` of cells ``(n, D)`` along the axes, and a last column of ones."""
        rotated = ((x - self.mean) / self.std) @ self.axes
        return torch.cat([rotated, torch.ones_like(rotated[:, :1])], dim=1)

    def unfold(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``(..., D)`` and biases ``(...)`` for features as they come, of ``theta`` ``(..., d + 1)``."""
        weight = (theta[..., :-1] @ self.axes.T) / self.std
        return weight, theta[..., -1] - weight @ self.mean
