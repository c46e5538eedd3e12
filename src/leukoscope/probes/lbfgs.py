import torch
from torch import Tensor


class History:
    """Limited-memory BFGS for P problems in lockstep (Nocedal & Wright 2006, algorithm 7.4).

    Points and gradients are ``(p, M)``, of the problems named by their numbers ``(p,)``; the problems share nothing
    but the time at which they step. A problem that rests for some steps keeps what it knows, less what grows old.
    """

    def __init__(self, problems: int, size: int) -> None:
        self._problems, self._size = problems, size
        # Newest last: steps (P, M), changes of the gradient (P, M), and 1 / (step . change) (P, 1), 0 where unknown.
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def direction(self, problems: Tensor, gradient: Tensor, inverse: Tensor) -> Tensor:
        """The quasi-Newton descent direction ``(p, M)``; ``inverse`` is the preconditioner's diagonal ``(p, M)``."""
        pairs = self._pairs
        if len(problems) < self._problems:
            pairs = [(s[problems], y[problems], rho[problems]) for s, y, rho in pairs]
        q = -gradient
        alphas = []
        for s, y, rho in reversed(pairs):
            alphas.append(rho * _dot(s, q))
            q = torch.addcmul(q, alphas[-1], y, value=-1)
        q = q * inverse
        if pairs:
            _, y, rho = pairs[-1]
            known = rho > 0
            q = q * torch.where(known, 1 / (rho * _dot(y, inverse * y)).clamp_min(1e-30), 1.0)
        for s, y, rho in pairs:
            q = torch.addcmul(q, alphas.pop() - rho * _dot(y, q), s)
        return q

    def update(self, problems: Tensor, step: Tensor, change: Tensor) -> None:
        """Remember a ``step`` ``(p, M)`` and the ``change`` of the gradient along it."""
        curvature = _dot(step, change)
        # A problem that did not move has no curvature to tell: its pair then counts for nothing.
        rho = torch.where(curvature > 0, 1 / curvature.clamp_min(1e-30), 0.0)
        self._pairs.append((self._whole(problems, step), self._whole(problems, change), self._whole(problems, rho)))
        del self._pairs[: -self._size]

    def _whole(self, problems: Tensor, values: Tensor) -> Tensor:
        """Rows of all P problems, 0 for those that rest."""
        if len(problems) == self._problems:
            return values
        return values.new_zeros(self._problems, values.shape[1]).index_copy(0, problems, values)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = torch.linalg.vecdot(a, b)
    return product[:, None]
