from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from leukoscope.common.runs import log
from leukoscope.common.settings import Settings
from leukoscope.probes.basis import Bases
from leukoscope.probes.head import Data, Fitted, Job
from leukoscope.probes.nested import TrainingSet
from leukoscope.probes.selection import candidates, validation_scores
from leukoscope.probes.softmax import SoftmaxRegressions
from leukoscope.probes.softmax_cells import OwnCells, SharedCells

# A logit that no other can come near, for a class that the training cells lack.
_NEVER = -1e4
# A product for each problem takes so many times longer than its share of one product for all.
_OWN_IS_SLOWER = 4
# 64 million float32 are 256 MiB, and a few such arrays are held at once.
_LOGITS = 64_000_000


@dataclass(frozen=True)
class LinearHead:
    """softmax(weight @ x + bias): ``weight`` ``(K, D)`` and ``bias`` ``(K,)`` float32, for features as they come."""

    weight: Tensor
    bias: Tensor

    def logits(self, x: Tensor) -> Tensor:
        """Logits ``(n, K)`` float32 of features ``(n, D)``."""
        return x @ self.weight.T + self.bias

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities ``(n, K)`` float32 of features ``(n, D)``."""
        return torch.softmax(self.logits(x), dim=1)

    def state(self) -> dict[str, Tensor]:
        """``weight`` and ``bias`` on the CPU."""
        return {"weight": self.weight.cpu().contiguous(), "bias": self.bias.cpu().contiguous()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "LinearHead":
        """The head that :meth:`state` told of."""
        return cls(state["weight"], state["bias"])


class LinearProbe(Settings):
    """Multinomial logistic regression on standardised features, solved to convergence; only the penalty is searched.

    ``C`` is scikit-learn's: the objective is ``C sum_i w_i loss_i + |W|^2 / 2``, the intercept free, the features
    standardised by the training cells alone. Of the values tried, that with the least log loss in the inner folds is
    taken (``choose_by`` accuracy takes the most accurate). ``class_weight`` balanced gives every class the same say.
    ``tolerance`` bounds the 2-norm of the gradient of the mean loss. ``standardise`` false takes features as they come.
    """

    C: tuple[float, ...] = Field(default=tuple(float(f"{c:.3g}") for c in np.logspace(-4, 0.5, 10)), min_length=1)
    class_weight: Literal["balanced"] | None = None
    choose_by: Literal["log_loss", "accuracy"] = "log_loss"
    standardise: bool = True
    tolerance: float = Field(default=1e-3, gt=0)
    max_iterations: int = Field(default=1000, gt=0)

    @property
    def seeded(self) -> bool:
        """The problem is convex: no seed changes the head."""
        return False

    def fit(self, data: Data, jobs: Sequence[Job]) -> list[Fitted]:
        """Fit all jobs; what several of them share is solved once."""
        tried = self._try(data, [job.training for job in jobs])
        middle = self.C[len(self.C) // 2]
        chosen = [min(each, key=self._rank)["C"] if each else middle for each in tried]
        ends = (min(self.C), max(self.C))
        if len(self.C) > 2 and any(each and c in ends for each, c in zip(tried, chosen, strict=True)):
            log.info("linear probe: the best C is at an end of those tried, %g to %g; try more (heads.linear.C)", *ends)
        alone = self.solve(data, [job.training.rows for job in jobs], [(c,) for c in chosen])
        return [Fitted(heads[0], {"C": c}, each) for heads, c, each in zip(alone, chosen, tried, strict=True)]

    def solve(
        self, data: Data, training: Sequence[np.ndarray], penalties: Sequence[Sequence[float]]
    ) -> list[list[LinearHead]]:
        """Heads on each training set (rows), at each of its ``penalties`` (values of C, as many for every set)."""
        solved: list[list[LinearHead]] = [[] for _ in training]
        for present, numbers in _by_classes(data, training).items():
            for chunk in _chunks(numbers, len(present) * len(data.x)):
                rows = [data.rows(training[i]) for i in chunk]
                found = self._solve(data, torch.tensor(present), rows, [penalties[i] for i in chunk])
                for number, heads in zip(chunk, found, strict=True):
                    solved[number] = heads
        return solved

    def _solve(
        self, data: Data, present: Tensor, training: list[Tensor], penalties: list[Sequence[float]]
    ) -> list[list[LinearHead]]:
        """Heads of training sets that hold the same classes ``present``."""
        present = present.to(data.y.device)
        # Cells of other classes are in none of these training sets; they weigh nothing, whatever number they get.
        y = torch.searchsorted(present, data.y.clamp_min(0)).clamp_max(len(present) - 1)
        bases = Bases.of(data.x, training, standardise=self.standardise)
        cells, weights = self._gather(data.x, y, training, bases, len(present))
        problem = SoftmaxRegressions(cells, len(present), weights, bases.variances)
        # From the strongest penalty to the weakest, each solution the start of the next.
        strengths = torch.tensor(penalties, dtype=torch.float32, device=y.device)
        order = strengths.argsort(dim=1)
        heads: list[list[LinearHead]] = [[LinearHead(y, y)] * strengths.shape[1] for _ in training]
        for place in order.T:
            c = strengths.gather(1, place[:, None])[:, 0]
            found = problem.solve(
                1 / (c * weights.sum(dim=1)), tolerance=self.tolerance, max_iterations=self.max_iterations
            )
            if float(problem.gradient_norm.max()) > 10 * self.tolerance:
                log.warning("linear probe: a gradient of %.1e is left at C = %g", problem.gradient_norm.max(), c.max())
            for number, (weight, bias) in enumerate(zip(*bases.unfold(*found), strict=True)):
                heads[number][int(place[number])] = LinearHead(*_spread(weight, bias, present, data.n_classes))
        return heads

    def _try(self, data: Data, training: Sequence[TrainingSet]) -> list[list[dict[str, float]]]:
        """Log loss and accuracy in the inner folds of each training set, of every C."""
        if len(self.C) == 1:
            return [[] for _ in training]
        fits = {inner.fit.tobytes(): inner.fit for each in training for inner in each.inner}
        heads = dict(zip(fits, self.solve(data, list(fits.values()), [self.C] * len(fits)), strict=True))
        tried = []
        for each in training:
            scores = []
            for inner in each.inner:
                index = data.rows(inner.validation)
                p = [head.probabilities(data.x[index]) for head in heads[inner.fit.tobytes()]]
                scores.append([validation_scores(values, data.y[index]) for values in p])
            tried.append(
                candidates([{"C": c} for c in self.C], scores, [len(inner.validation) for inner in each.inner])
            )
        return tried

    def _rank(self, tried: dict[str, float]) -> tuple[float, float]:
        """Less is better; of equals the stronger penalty."""
        return (tried["log_loss"] if self.choose_by == "log_loss" else -tried["accuracy"], tried["C"])

    def _gather(
        self, x: Tensor, y: Tensor, training: list[Tensor], bases: Bases, n_classes: int
    ) -> tuple[SharedCells | OwnCells, Tensor]:
        """The cells of the training sets, and their weights ``(F, N)``, 0 for cells outside a set."""
        most = max(len(rows) for rows in training)
        if most * bases.axes.shape[1] * _OWN_IS_SLOWER > x.numel():
            weights = torch.zeros(len(training), len(x), device=x.device)
            for own, rows in zip(weights, training, strict=True):
                own[rows] = self._weights(y[rows], n_classes)
            return SharedCells.of(x, y, bases.mean, bases.axes), weights
        # A set smaller than the others is filled up with its first cell, at weight 0.
        padded = torch.stack([torch.cat([rows, rows[:1].expand(most - len(rows))]) for rows in training])
        z = torch.stack(
            [(x[rows] - mean) @ axes.T for rows, mean, axes in zip(padded, bases.mean, bases.axes, strict=True)]
        )
        own_weights = [F.pad(self._weights(y[rows], n_classes), (0, most - len(rows))) for rows in training]
        return OwnCells(z, y[padded]), torch.stack(own_weights)

    def _weights(self, y: Tensor, n_classes: int) -> Tensor:
        """Weights ``(n,)`` of training cells of classes ``y``; balanced ones sum to their number."""
        if self.class_weight is None:
            return torch.ones(len(y), device=y.device)
        return (len(y) / (n_classes * torch.bincount(y, minlength=n_classes)))[y].float()


def _by_classes(data: Data, training: Sequence[np.ndarray]) -> dict[tuple[int, ...], list[int]]:
    """Numbers of the training sets by the classes that they hold."""
    found: dict[tuple[int, ...], list[int]] = {}
    for number, rows in enumerate(training):
        present = tuple(torch.unique(data.y[data.rows(rows)]).tolist())
        found.setdefault(present, []).append(number)
    return found


def _chunks(numbers: list[int], entries: int) -> list[list[int]]:
    """As many problems together as keep one array of logits, of ``entries`` a problem, within bounds."""
    size = max(1, _LOGITS // entries)
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _spread(weight: Tensor, bias: Tensor, present: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Weights and biases for all classes: one that the training cells lack is never answered."""
    all_weights = torch.zeros(n_classes, weight.shape[1], device=weight.device)
    all_biases = torch.full((n_classes,), _NEVER, device=bias.device)
    all_weights[present], all_biases[present] = weight, bias
    return all_weights, all_biases
