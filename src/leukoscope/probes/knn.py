from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from leukoscope.common.settings import Settings
from leukoscope.probes.basis import principal
from leukoscope.probes.head import Data, Fitted, Job
from leukoscope.probes.nested import TrainingSet
from leukoscope.probes.selection import candidates, validation_scores
from leukoscope.scores.neighbours import Metric, knn, nearest

# Axes with less than this share of the largest variance may be rounding, which scaling would blow up to a signal.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Space:
    """Where neighbours are sought: along ``axes`` ``(p, D)`` from ``mean`` ``(D,)``; no axes: features as they come."""

    mean: Tensor
    axes: Tensor

    @classmethod
    def of(cls, x: Tensor, whiten: Sequence[int]) -> "list[Space]":
        """Spaces along so many leading principal axes of cells ``(n, D)``, scaled to unit variance; 0 for none."""
        if not any(whiten):
            return [cls(x.new_zeros(x.shape[1]), x.new_zeros(0, x.shape[1]))] * len(whiten)
        mean, axes, variances = principal(x)
        scaled = (axes / variances[:, None].sqrt())[variances > _ROUNDING * variances[-1]]
        return [cls(mean, scaled[max(0, len(scaled) - count) :]) for count in whiten]

    def __call__(self, x: Tensor) -> Tensor:
        """Features ``(n, D)`` as neighbours are sought among them, ``(n, p)`` or ``(n, D)``."""
        return (x - self.mean) @ self.axes.T if len(self.axes) else x


@dataclass(frozen=True)
class NearestHead:
    """The training cells in their ``space``: ``x`` ``(m, p)``, ``y`` ``(m,)`` int64; the k nearest vote."""

    x: Tensor
    y: Tensor
    k: int
    n_classes: int
    space: Space
    metric: Metric = "cosine"

    def probabilities(self, x: Tensor) -> Tensor:
        """The share of votes ``(n, K)`` float32 that each class gets."""
        return knn(self.x, self.y, self.space(x), self.k, self.n_classes, metric=self.metric)

    def state(self) -> dict[str, Tensor]:
        """Cells, classes, ``k``, ``n_classes``, the space and the metric on the CPU."""
        scalars = {"k": torch.tensor(self.k), "n_classes": torch.tensor(self.n_classes)}
        scalars["euclidean"] = torch.tensor(self.metric == "euclidean")
        tensors = {"x": self.x, "y": self.y, "mean": self.space.mean, "axes": self.space.axes}
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()} | scalars

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "NearestHead":
        """The head that :meth:`state` told of."""
        space = Space(state["mean"], state["axes"])
        metric: Metric = "euclidean" if state["euclidean"] else "cosine"
        return cls(state["x"], state["y"], int(state["k"]), int(state["n_classes"]), space, metric)


class NearestProbe(Settings):
    """The majority of the k nearest training cells by cosine similarity, or by Euclidean distance.

    ``whiten`` seeks them along so many principal axes of the standardised training cells, each scaled to unit variance
    (a Mahalanobis distance): what an encoder knows of a cell's kind may lie in directions that light and orientation
    outweigh. 0 takes features as they come. Of all ``k`` and ``whiten``, the most accurate in the inner folds is taken,
    of equals the plainest space and then the largest k.
    """

    k: tuple[int, ...] = Field(default=(1, 5, 20), min_length=1)
    whiten: tuple[int, ...] = Field(default=(0, 64, 128, 256), min_length=1)
    metric: Metric = "cosine"

    @property
    def seeded(self) -> bool:
        """Nothing is drawn."""
        return False

    def fit(self, data: Data, jobs: Sequence[Job]) -> list[Fitted]:
        """Choose k and the space for each job; the head is its training cells."""
        return [self._fit(data, job) for job in jobs]

    def _fit(self, data: Data, job: Job) -> Fitted:
        tried = self._try(data, job.training)
        first = {"k": self.k[0], "whiten": self.whiten[0]}
        best = max(tried, key=lambda each: (each["accuracy"], -each["whiten"], each["k"]), default=first)
        index = data.rows(job.training.rows)
        (space,) = Space.of(data.x[index], (int(best["whiten"]),))
        head = NearestHead(space(data.x[index]), data.y[index], int(best["k"]), data.n_classes, space, self.metric)
        return Fitted(head, {name: best[name] for name in first}, tried)

    def _try(self, data: Data, training: TrainingSet) -> list[dict[str, float]]:
        """Log loss and accuracy in the inner folds, of every space and k; neighbours are looked up once a space."""
        if len(self.k) == len(self.whiten) == 1 or not training.inner:
            return []
        values = [{"whiten": float(whiten), "k": float(k)} for whiten in self.whiten for k in self.k]
        scores = []
        for inner in training.inner:
            fit, validation = data.rows(inner.fit), data.rows(inner.validation)
            found = []
            for space in Space.of(data.x[fit], self.whiten):
                _, index = nearest(space(data.x[fit]), space(data.x[validation]), max(self.k), self.metric)
                votes = F.one_hot(data.y[fit][index], data.n_classes).float()
                found += [validation_scores(votes[:, :k].mean(dim=1), data.y[validation]) for k in self.k]
            scores.append(found)
        return candidates(values, scores, [len(inner.validation) for inner in training.inner])
