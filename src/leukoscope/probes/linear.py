from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from leukoscope.common.runs import log
from leukoscope.common.settings import Settings
from leukoscope.probes.basis import Basis
from leukoscope.probes.head import Data, Fitted, Job
from leukoscope.probes.nested import TrainingSet
from leukoscope.probes.selection import mean_scores, validation_scores
from leukoscope.probes.softmax import SoftmaxRegression

# A logit that no other can come near, for a class that the training cells lack.
_NEVER = -1e4


@dataclass(frozen=True)
class LinearHead:
    """softmax(weight @ x + bias): ``weight`` ``(K, D)`` and ``bias`` ``(K,)`` float32, for features as they come."""

    weight: Tensor
    bias: Tensor

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities ``(n, K)`` float32 of features ``(n, D)``."""
        return torch.softmax(x @ self.weight.T + self.bias, dim=1)

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
    ``tolerance`` bounds the 2-norm of the gradient of the mean loss.
    """

    C: tuple[float, ...] = Field(default=tuple(float(f"{c:.3g}") for c in np.logspace(-4, 4, 10)), min_length=1)
    class_weight: Literal["balanced"] | None = None
    choose_by: Literal["log_loss", "accuracy"] = "log_loss"
    tolerance: float = Field(default=1e-4, gt=0)
    max_iterations: int = Field(default=1000, gt=0)

    @property
    def seeded(self) -> bool:
        """The problem is convex: no seed changes the head."""
        return False

    def fit(self, data: Data, jobs: Sequence[Job]) -> list[Fitted]:
        """Fit all jobs; training sets that several of them share are solved once, for all penalties together."""
        solved: dict[bytes, list[LinearHead]] = {}
        fitted = []
        for job in jobs:
            tried = self._try(data, job.training, solved)
            best = min(range(len(tried)), key=lambda i: self._rank(tried[i])) if tried else len(self.C) // 2
            head = self.solve(data, job.training.rows, (self.C[best],))[0]
            fitted.append(Fitted(head, {"C": self.C[best]}, tried))
            if tried and len(self.C) > 2 and best in (0, len(self.C) - 1):
                log.info("linear probe: the best C, %g, is the end of those tried", self.C[best])
        return fitted

    def solve(self, data: Data, rows: np.ndarray, penalties: Sequence[float]) -> list[LinearHead]:
        """The heads of all ``penalties`` (values of C), fitted on the cells at ``rows``."""
        index = data.rows(rows)
        basis = Basis.of(data.x[index])
        present, y = torch.unique(data.y[index], return_inverse=True)
        weights = self._weights(y, len(present))
        strengths = 1 / (torch.tensor(penalties, dtype=torch.float32, device=y.device) * weights.sum())
        regression = SoftmaxRegression(basis.transform(data.x[index]), y, len(present), weights, strengths)
        solution = regression.solve(tolerance=self.tolerance, max_iterations=self.max_iterations)
        worst = float(solution.gradient_norm.max())
        if worst > 10 * self.tolerance:
            log.warning("linear probe: stopped at a gradient of %.1e after %d steps", worst, solution.iterations)
        weight, bias = basis.unfold(solution.theta)
        return [LinearHead(*_spread(w, b, present, data.n_classes)) for w, b in zip(weight, bias, strict=True)]

    def _try(self, data: Data, training: TrainingSet, solved: dict[bytes, list[LinearHead]]) -> list[dict[str, float]]:
        """Log loss and accuracy in the inner folds, of every C."""
        if len(self.C) == 1 or not training.inner:
            return []
        scores = []
        for inner in training.inner:
            key = inner.fit.tobytes()
            if key not in solved:
                solved[key] = self.solve(data, inner.fit, self.C)
            index = data.rows(inner.validation)
            x, y = data.x[index], data.y[index]
            scores.append([validation_scores(head.probabilities(x), y) for head in solved[key]])
        means = mean_scores(scores, [len(inner.validation) for inner in training.inner]).tolist()
        return [{"C": c, "log_loss": loss, "accuracy": acc} for c, (loss, acc) in zip(self.C, means, strict=True)]

    def _rank(self, tried: dict[str, float]) -> tuple[float, float]:
        """Less is better; of equals the stronger penalty."""
        return (tried["log_loss"] if self.choose_by == "log_loss" else -tried["accuracy"], tried["C"])

    def _weights(self, y: Tensor, n_classes: int) -> Tensor:
        if self.class_weight is None:
            return torch.ones(len(y), device=y.device)
        return (len(y) / (n_classes * torch.bincount(y, minlength=n_classes)))[y].float()


def _spread(weight: Tensor, bias: Tensor, present: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Weights and biases for all classes: one that the training cells lack is never answered."""
    all_weights = torch.zeros(n_classes, weight.shape[1], device=weight.device)
    all_biases = torch.full((n_classes,), _NEVER, device=bias.device)
    all_weights[present], all_biases[present] = weight, bias
    return all_weights, all_biases
