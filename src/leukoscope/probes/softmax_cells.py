"""The cells that logistic regressions learn from: shared by all of them, or each regression with its own."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SharedCells:
    """p training sets among the same N cells, where each holds most of them.

    Logits and gradients of all problems are one product each with the shared cells: wide enough to run at full speed,
    where the few columns of one problem are not. ``x`` is ``(N, D)``, ``y`` ``(N,)`` int64; the coordinates of a cell
    in problem f are ``axes[f] @ (x - mean[f])``, with ``mean`` ``(p, D)`` and ``axes`` ``(p, r, D)``.
    """

    x: Tensor
    y: Tensor
    mean: Tensor
    axes: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, mean: Tensor, axes: Tensor) -> "SharedCells":
        """The same, shifted to near all means: that keeps float32 from cancelling."""
        return cls(x - mean[0], y, mean - mean[0], axes)

    def __getitem__(self, rows: Tensor) -> "SharedCells":
        """The problems at ``rows``."""
        return SharedCells(self.x, self.y, self.mean[rows], self.axes[rows])

    def classes(self, rows: Tensor | None = None) -> Tensor:
        """Classes ``(p, N)`` of the cells of the problems at ``rows``, of all if None."""
        return self.y.expand(len(self.mean) if rows is None else len(rows), -1)

    def logits(self, theta: Tensor) -> Tensor:
        """Logits ``(p, K, N)`` of coefficients ``(p, K, r + 1)``, the intercept last."""
        weight = torch.bmm(theta[..., :-1], self.axes)
        bias = theta[..., -1:] - weight @ self.mean[..., None]
        return torch.addmm(bias.view(-1, 1), weight.flatten(0, 1), self.x.T).view(*theta.shape[:2], -1)

    def gradient(self, residual: Tensor) -> Tensor:
        """The gradient ``(p, K, r + 1)`` of losses whose slopes along the logits are ``residual`` ``(p, K, N)``."""
        total = residual.sum(dim=2, keepdim=True)
        plain = (residual.flatten(0, 1) @ self.x).view(*total.shape[:2], -1)
        return torch.cat([torch.bmm(plain - total * self.mean[:, None], self.axes.transpose(1, 2)), total], dim=2)


@dataclass(frozen=True)
class OwnCells:
    """p training sets of n cells each, few of all there are: coordinates ``z`` ``(p, n, r)`` and classes ``(p, n)``."""

    z: Tensor
    y: Tensor

    def __getitem__(self, rows: Tensor) -> "OwnCells":
        """The problems at ``rows``."""
        return OwnCells(self.z[rows], self.y[rows])

    def classes(self, rows: Tensor | None = None) -> Tensor:
        """See :meth:`SharedCells.classes`."""
        return self.y if rows is None else self.y[rows]

    def logits(self, theta: Tensor) -> Tensor:
        """See :meth:`SharedCells.logits`."""
        return torch.baddbmm(theta[..., -1:], theta[..., :-1], self.z.transpose(1, 2))

    def gradient(self, residual: Tensor) -> Tensor:
        """See :meth:`SharedCells.gradient`."""
        return torch.cat([torch.bmm(residual, self.z), residual.sum(dim=2, keepdim=True)], dim=2)
