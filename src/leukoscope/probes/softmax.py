from dataclasses import dataclass, fields

import torch
from torch import Tensor

from leukoscope.probes.lbfgs import History
from leukoscope.probes.linesearch import search


@dataclass(frozen=True)
class Solution:
    """Coefficients ``theta`` ``(P, K, d + 1)``, the gradient norm ``(P,)`` they were left at, and ``iterations``."""

    theta: Tensor
    gradient_norm: Tensor
    iterations: int


@dataclass
class _Open:
    """The problems not yet solved: their numbers ``(p,)``, coefficients, and what is known at these."""

    number: Tensor
    theta: Tensor
    scale: Tensor
    penalty: Tensor
    logits: Tensor
    residual: Tensor
    value: Tensor
    gradient: Tensor

    def keep(self, rows: Tensor) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name)[rows])


class SoftmaxRegression:
    """P multinomial logistic regressions on the same cells that differ in their L2 penalty, as one problem.

    Minimises, for each penalty l, ``sum_i w_i loss_i / sum_i w_i + l / 2 |theta without intercept|^2``: the objective
    of scikit-learn's ``LogisticRegression`` divided by ``C sum(w)``, with ``l = 1 / (C sum(w))``.

    Args:
        x: ``(n, d + 1)`` cells along uncorrelated axes, the last column ones for the intercept.
        y: classes ``(n,)`` int64; every one of the K occurs.
        weights: ``(n,)`` of the cells.
        penalties: l ``(P,)``.
    """

    def __init__(self, x: Tensor, y: Tensor, n_classes: int, weights: Tensor, penalties: Tensor) -> None:
        self._x, self._y = x, y
        self._weights = weights / weights.sum()
        shares = torch.zeros(n_classes, device=x.device).index_add_(0, y, self._weights)
        self._penalty = penalties[:, None, None] * torch.ones(x.shape[1], device=x.device)
        self._penalty[..., -1] = 0
        # The curvature where every cell is given the classes' shares, along each axis: what Böhning's bound (1992,
        # Ann. Inst. Stat. Math. 44:197-200) is for equal shares, up to a factor.
        spread = (shares * (1 - shares))[None, :, None]
        self._scale = (spread * (self._weights @ x.square()) + self._penalty).rsqrt()
        self._start = torch.zeros(len(penalties), n_classes, x.shape[1], device=x.device)
        self._start[..., -1] = shares.log() - shares.log().mean()

    def solve(self, *, tolerance: float = 1e-4, max_iterations: int = 1000, memory: int = 10) -> Solution:
        """Preconditioned L-BFGS until the gradient's 2-norm is below ``tolerance``; a solved problem leaves the batch.

        A logit is linear in the coefficients, so a trial step costs no product with the cells: an iteration is two
        products, one for the direction's logits and one for the gradient, however many trials it takes.
        """
        now = self._begin()
        theta, norms = now.theta.clone(), now.value.clone()
        history = History(memory)
        moved = torch.ones_like(now.value, dtype=torch.bool)
        for iteration in range(max_iterations + 1):
            norm = now.gradient.flatten(1).norm(dim=1)
            theta[now.number], norms[now.number] = now.theta, norm
            open_ = ((norm > tolerance) & moved).nonzero()[:, 0]
            if not len(open_) or iteration == max_iterations:
                break
            if len(open_) < len(now.number):
                now.keep(open_)
                history.keep(open_)
            moved = self._advance(now, history)
        return Solution(theta, norms, iteration)

    def _begin(self) -> _Open:
        numbers = torch.arange(len(self._start), device=self._x.device)
        logits = self._logits(self._start)
        residual = torch.empty_like(logits)
        value = self._loss(logits, residual, numbers) + _half_square(self._penalty, self._start)
        gradient = self._gradient(residual) + self._penalty * self._start
        scale = self._scale.expand_as(self._start)
        return _Open(numbers, self._start, scale, self._penalty, logits, residual, value, gradient)

    def _advance(self, now: _Open, history: History) -> Tensor:
        """One step of every open problem; says which of them moved ``(p,)``."""
        direction = history.direction((now.gradient * now.scale).flatten(1)).view_as(now.theta) * now.scale
        change = self._logits(direction)
        linear = (now.penalty * now.theta * direction).flatten(1).sum(dim=1)
        square = (now.penalty * direction.square()).flatten(1).sum(dim=1)
        norm = _half_square(now.penalty, now.theta)

        def evaluate(rows: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
            logits = torch.addcmul(now.logits[rows], step[:, None, None], change[rows])
            loss = self._loss(logits, now.residual, rows)
            slope = (now.residual[rows] * change[rows]).flatten(1).sum(dim=1)
            value = loss + norm[rows] + step * linear[rows] + step.square() / 2 * square[rows]
            now.value[rows] = value
            return value, slope + linear[rows] + step * square[rows]

        slope = (now.gradient * direction).flatten(1).sum(dim=1)
        step = search(evaluate, now.value.clone(), slope)[:, None, None]
        gradient = self._gradient(now.residual) + now.penalty * (now.theta + step * direction)
        history.update((step * direction / now.scale).flatten(1), ((gradient - now.gradient) * now.scale).flatten(1))
        now.theta = now.theta + step * direction
        now.logits.addcmul_(step, change)
        now.gradient = gradient
        return step[:, 0, 0] > 0

    def _loss(self, logits: Tensor, residual: Tensor, rows: Tensor) -> Tensor:
        """The weighted mean losses ``(p,)`` at ``logits`` ``(p, K, n)``; writes their derivatives to ``residual``."""
        log_p = torch.log_softmax(logits, dim=1)
        truth = self._y.expand(len(rows), 1, -1)
        loss = -(log_p.gather(1, truth)[:, 0].double() @ self._weights.double()).float()
        p = log_p.exp_()
        p.scatter_add_(1, truth, torch.full_like(p[:, :1], -1.0))
        residual[rows] = p.mul_(self._weights)
        return loss

    def _logits(self, theta: Tensor) -> Tensor:
        return (theta.flatten(0, 1) @ self._x.T).view(*theta.shape[:2], -1)

    def _gradient(self, residual: Tensor) -> Tensor:
        return (residual.flatten(0, 1) @ self._x).view(*residual.shape[:2], -1)


def _half_square(penalty: Tensor, theta: Tensor) -> Tensor:
    return (penalty * theta.square()).flatten(1).sum(dim=1) / 2
