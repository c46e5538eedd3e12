from dataclasses import dataclass, fields

import torch
from torch import Tensor

from leukoscope.probes.lbfgs import History
from leukoscope.probes.linesearch import search
from leukoscope.probes.softmax_cells import OwnCells, SharedCells


@dataclass
class _Open:
    """The problems not yet solved: their numbers ``(p,)``, what they are, and what is known at their coefficients."""

    number: Tensor
    cells: SharedCells | OwnCells
    weights: Tensor
    penalty: Tensor
    inverse: Tensor
    theta: Tensor
    logits: Tensor
    residual: Tensor
    value: Tensor
    gradient: Tensor

    def keep(self, rows: Tensor) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name)[rows])


class SoftmaxRegressions:
    """Multinomial logistic regressions on F training sets, solved together.

    Minimises for each ``sum_i w_i loss_i / sum_i w_i + l / 2 |theta without intercept|^2``, the features standardised
    by the training set: the objective of scikit-learn's ``LogisticRegression`` divided by ``C sum(w)``, with
    ``l = 1 / (C sum(w))``.

    Args:
        cells: of the training sets; each has cells of all K classes.
        n_classes: K.
        weights: ``(F, N)``, 0 for cells outside the training set.
        variances: ``(F, r)`` of the cells of each set along the r axes of its coefficients.
    """

    def __init__(self, cells: SharedCells | OwnCells, n_classes: int, weights: Tensor, variances: Tensor) -> None:
        self._cells, self._variances = cells, variances
        self._weights = weights / weights.sum(dim=1, keepdim=True)
        zero = torch.zeros(len(weights), n_classes, device=weights.device)
        self._shares = zero.scatter_add(1, cells.classes(), self._weights)
        self._zero = torch.zeros(len(weights), n_classes, variances.shape[1] + 1, device=weights.device)
        self._zero[..., -1] = self._shares.log() - self._shares.log().mean(dim=1, keepdim=True)
        # Solutions so far, with the logarithms of their penalties: what the next one starts from.
        self._path: list[tuple[Tensor, Tensor]] = []
        self._history = History(len(weights), 12)
        self.iterations = 0
        self.gradient_norm = torch.full((len(weights),), torch.inf)

    def solve(self, penalties: Tensor, *, tolerance: float, max_iterations: int) -> tuple[Tensor, Tensor]:
        """Coefficients ``(F, K, r)`` along each problem's axes and biases ``(F, K)``, at penalties l ``(F,)``.

        Preconditioned L-BFGS until the gradient's 2-norm is below ``tolerance``, or within ten times of it and a
        further step would lower the loss by less than ``tolerance**2 / 10``: float32 tells no smaller gain, and where
        features are nearly collinear no step would reach the norm. A solved problem leaves the batch. It starts from
        the last two solutions, carried on in the logarithm of the penalty, and with what was learned of the curvature:
        call it from the strongest penalty to the weakest. A logit is linear in the coefficients, so a trial step costs
        no product with the cells: an iteration is two products, one for the direction's logits and
        one for the gradient, however many trials it takes.
        """
        now = self._begin(penalties)
        theta, norms = now.theta.clone(), now.value.clone()
        moved = torch.ones_like(now.value, dtype=torch.bool)
        for iteration in range(max_iterations + 1):
            norm = now.gradient.flatten(1).norm(dim=1)
            theta[now.number], norms[now.number] = now.theta, norm
            open_ = ((norm > tolerance) & moved).nonzero()[:, 0]
            if not len(open_) or iteration == max_iterations:
                break
            if len(open_) < len(now.number):
                now.keep(open_)
            step, slope = self._advance(now)
            gains = -slope / 2 > tolerance**2 / 10
            moved = (step > 0) & (gains | (norm[open_] > 10 * tolerance))
            self.iterations += 1
        self._path = [*self._path[-1:], (penalties.log(), theta)]
        self.gradient_norm = norms
        return theta[..., :-1], theta[..., -1]

    def _start(self, level: Tensor) -> Tensor:
        if len(self._path) < 2:
            return self._path[-1][1] if self._path else self._zero
        (level_a, theta_a), (level_b, theta_b) = self._path
        reach = torch.where(level_a > level_b, (level_b - level) / (level_a - level_b).clamp_min(1e-6), 0.0)
        return theta_b + reach.clamp(0, 1)[:, None, None] * (theta_b - theta_a)

    def _begin(self, penalties: Tensor) -> _Open:
        theta, weights = self._start(penalties.log()), self._weights
        penalty = penalties[:, None, None].repeat(1, 1, theta.shape[2])
        penalty[..., -1] = 0
        number = torch.arange(len(theta), device=theta.device)
        now = _Open(number, self._cells, weights, penalty, penalty, theta, *[theta] * 4)
        now.logits = now.cells.logits(theta)
        now.residual = torch.empty_like(now.logits)
        value, spread = self._loss(now, now.logits, number, with_spread=True)
        now.value = value + _half_square(penalty, theta)
        now.gradient = now.cells.gradient(now.residual) + penalty * theta
        # The curvature along each axis if every cell had the mean p (1 - p) of the class: Böhning's bound (1992, Ann.
        # Inst. Stat. Math. 44:197-200) with the p at hand in place of the worst.
        variances = torch.cat([self._variances, torch.ones_like(penalties)[:, None]], dim=1)[:, None]
        now.inverse = torch.where(variances > 0, 1 / (spread[..., None] * variances + penalty), 0.0)
        return now

    def _advance(self, now: _Open) -> tuple[Tensor, Tensor]:
        """One step of every open problem: how long it was ``(p,)``, and the loss's slope along it before."""
        flat = self._history.direction(now.number, now.gradient.flatten(1), now.inverse.flatten(1))
        direction = flat.view_as(now.theta)
        change = now.cells.logits(direction)
        linear = (now.penalty * now.theta * direction).flatten(1).sum(dim=1)
        square = (now.penalty * direction.square()).flatten(1).sum(dim=1)
        norm = _half_square(now.penalty, now.theta)

        def evaluate(rows: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
            every = len(rows) == len(now.number)
            moves = change if every else change[rows]
            logits = torch.addcmul(now.logits if every else now.logits[rows], step[:, None, None], moves)
            loss, _ = self._loss(now, logits, rows)
            residual = now.residual if every else now.residual[rows]
            slope = torch.linalg.vecdot(residual.flatten(1), moves.flatten(1))
            value = loss + norm[rows] + step * linear[rows] + step.square() / 2 * square[rows]
            now.value[rows] = value
            return value, slope + linear[rows] + step * square[rows]

        slope = (now.gradient * direction).flatten(1).sum(dim=1)
        step = search(evaluate, now.value.clone(), slope)[:, None, None]
        gradient = now.cells.gradient(now.residual) + now.penalty * (now.theta + step * direction)
        self._history.update(now.number, (step * direction).flatten(1), (gradient - now.gradient).flatten(1))
        now.theta = now.theta + step * direction
        now.logits.addcmul_(step, change)
        now.gradient = gradient
        return step[:, 0, 0], slope

    def _loss(self, now: _Open, logits: Tensor, rows: Tensor, *, with_spread: bool = False) -> tuple[Tensor, Tensor]:
        """Mean losses ``(p,)`` and, if asked, mean p (1 - p) ``(p, K)``; writes the losses' slopes to the residual."""
        weights = now.weights[rows]
        log_p = torch.log_softmax(logits, dim=1)
        truth = now.cells.classes(rows)[:, None]
        picked = log_p.gather(1, truth)
        loss = -torch.linalg.vecdot(picked[:, 0].double(), weights.double()).float()
        p = log_p.exp_()
        spread = torch.einsum("pkn,pn->pk", p * (1 - p), weights) if with_spread else loss
        p.scatter_add_(1, truth, torch.full_like(picked, -1.0))
        residual = p.mul_(weights[:, None])
        if len(rows) == len(now.number):
            now.residual = residual
        else:
            now.residual[rows] = residual
        return loss, spread


def _half_square(penalty: Tensor, theta: Tensor) -> Tensor:
    return (penalty * theta.square()).flatten(1).sum(dim=1) / 2
