from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from leukoscope.common.settings import Settings
from leukoscope.probes.head import Data, Fitted, Job
from leukoscope.probes.nested import TrainingSet
from leukoscope.probes.selection import candidates, validation_scores
from leukoscope.scores.neighbours import knn, nearest


@dataclass(frozen=True)
class NearestHead:
    """The training cells themselves: ``x`` ``(m, D)`` float32, ``y`` ``(m,)`` int64; the k nearest by cosine vote."""

    x: Tensor
    y: Tensor
    k: int
    n_classes: int

    def probabilities(self, x: Tensor) -> Tensor:
        """The share of votes ``(n, K)`` float32 that each class gets."""
        return knn(self.x, self.y, x, self.k, self.n_classes)

    def state(self) -> dict[str, Tensor]:
        """Cells, classes, ``k`` and ``n_classes`` on the CPU."""
        scalars = {"k": torch.tensor(self.k), "n_classes": torch.tensor(self.n_classes)}
        return {"x": self.x.cpu().contiguous(), "y": self.y.cpu(), **scalars}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "NearestHead":
        """The head that :meth:`state` told of."""
        return cls(state["x"], state["y"], int(state["k"]), int(state["n_classes"]))


class NearestProbe(Settings):
    """The majority of the k nearest training cells by cosine similarity.

    Of the values of ``k``, the most accurate in the inner folds is taken, of equals the largest.
    """

    k: tuple[int, ...] = Field(default=(1, 5, 20), min_length=1)

    @property
    def seeded(self) -> bool:
        """Nothing is drawn."""
        return False

    def fit(self, data: Data, jobs: Sequence[Job]) -> list[Fitted]:
        """Choose k for each job; the head is its training cells."""
        fitted = []
        for job in jobs:
            tried = self._try(data, job.training)
            best = max(tried, key=lambda each: (each["accuracy"], each["k"]), default={"k": self.k[0]})
            index = data.rows(job.training.rows)
            head = NearestHead(data.x[index], data.y[index], int(best["k"]), data.n_classes)
            fitted.append(Fitted(head, {"k": best["k"]}, tried))
        return fitted

    def _try(self, data: Data, training: TrainingSet) -> list[dict[str, float]]:
        """Log loss and accuracy in the inner folds, of every k; the neighbours are looked up once for all."""
        if len(self.k) == 1 or not training.inner:
            return []
        scores = []
        for inner in training.inner:
            fit, validation = data.rows(inner.fit), data.rows(inner.validation)
            _, index = nearest(data.x[fit], data.x[validation], max(self.k))
            votes = F.one_hot(data.y[fit][index], data.n_classes).float()
            scores.append([validation_scores(votes[:, :k].mean(dim=1), data.y[validation]) for k in self.k])
        return candidates("k", self.k, scores, [len(inner.validation) for inner in training.inner])
