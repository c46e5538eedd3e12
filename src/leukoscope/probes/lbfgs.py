import torch
from torch import Tensor


class History:
    """Limited-memory BFGS for P problems in lockstep (Nocedal & Wright 2006, algorithm 7.4).

    Points and gradients are ``(P, M)``; the problems share nothing but the time at which they step.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._steps: list[Tensor] = []
        self._changes: list[Tensor] = []
        self._rho: list[Tensor] = []

    def direction(self, gradient: Tensor) -> Tensor:
        """The quasi-Newton descent direction ``(P, M)`` at a point with ``gradient`` ``(P, M)``."""
        q = -gradient
        alphas = []
        for s, y, rho in reversed(list(zip(self._steps, self._changes, self._rho, strict=True))):
            alpha = rho * (s * q).sum(dim=1, keepdim=True)
            q = torch.addcmul(q, alpha, y, value=-1)
            alphas.append(alpha)
        if self._steps:
            y = self._changes[-1]
            q = q / (self._rho[-1] * y.square().sum(dim=1, keepdim=True)).clamp_min(1e-30)
        for s, y, rho in zip(self._steps, self._changes, self._rho, strict=True):
            beta = rho * (y * q).sum(dim=1, keepdim=True)
            q = torch.addcmul(q, alphas.pop() - beta, s)
        return q

    def update(self, step: Tensor, change: Tensor) -> None:
        """Remember a ``step`` ``(P, M)`` and the ``change`` of the gradient along it."""
        curvature = (step * change).sum(dim=1, keepdim=True)
        # A problem that did not move has no curvature to tell: its pair then counts for nothing.
        moved = curvature > 0
        self._steps.append(step * moved)
        self._changes.append(torch.where(moved, change, self._changes[-1] if self._changes else change))
        self._rho.append(torch.where(moved, 1 / curvature.clamp_min(1e-30), 1.0))
        for kept in (self._steps, self._changes, self._rho):
            del kept[: -self._size]

    def keep(self, problems: Tensor) -> None:
        """Forget all but ``problems`` (row numbers)."""
        for kept in (self._steps, self._changes, self._rho):
            kept[:] = [each[problems] for each in kept]
