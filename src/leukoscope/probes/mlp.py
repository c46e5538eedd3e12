from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from leukoscope.common.settings import Settings
from leukoscope.probes.head import Data, Fitted, Job
from leukoscope.probes.mlp_training import Problem, StackedTraining
from leukoscope.probes.nested import TrainingSet
from leukoscope.probes.selection import candidates, validation_scores
from leukoscope.probes.stacked import forward

_NAMES = ("weight", "bias", "scale", "shift")


@dataclass(frozen=True)
class MLPHead:
    """A multilayer perceptron on standardised features: ``mean`` and ``std`` ``(D,)``, ``parameters`` layer by layer.

    The parameters are weight ``(out, in)``, bias, scale and shift ``(out,)`` of each hidden layer, then weight and
    bias of the last, as :func:`~leukoscope.probes.stacked.forward` takes them without its leading axis.
    """

    mean: Tensor
    std: Tensor
    parameters: tuple[Tensor, ...]

    def logits(self, x: Tensor) -> Tensor:
        """Logits ``(n, K)`` float32 of features ``(n, D)``."""
        return forward([each[None] for each in self.parameters], ((x - self.mean) / self.std)[None])[0]

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities ``(n, K)`` float32 of features ``(n, D)``."""
        return torch.softmax(self.logits(x), dim=1)

    def state(self) -> dict[str, Tensor]:
        """``mean``, ``std`` and ``layer<i>.<weight|bias|scale|shift>`` on the CPU."""
        state = {"mean": self.mean.cpu().contiguous(), "std": self.std.cpu().contiguous()}
        for i, each in enumerate(self.parameters):
            state[f"layer{i // 4}.{_NAMES[i % 4]}"] = each.cpu().contiguous()
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "MLPHead":
        """The head that :meth:`state` told of."""
        names = [f"layer{i // 4}.{_NAMES[i % 4]}" for i in range(len(state) - 2)]
        return cls(state["mean"], state["std"], tuple(state[name] for name in names))


class MLPProbe(Settings):
    """The paper's MLP head, D to 1024 to 512 to K, with ReLU and layer normalisation after each hidden layer.

    Trained by AdamW with a cosine schedule for a fixed number of epochs. The learning rate is that of the least log
    loss (``choose_by`` accuracy: of the highest accuracy) on held-out cells of the training fold: on the first
    ``inner_splits`` of its inner folds.
    """

    hidden: tuple[int, ...] = (1024, 512)
    learning_rates: tuple[float, ...] = Field(default=(3e-4, 1e-3, 3e-3), min_length=1)
    epochs: int = Field(default=30, gt=0)
    batch: int = Field(default=256, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    inner_splits: int = Field(default=1, gt=0)
    choose_by: Literal["log_loss", "accuracy"] = "accuracy"

    @property
    def seeded(self) -> bool:
        """The seed draws the first weights and the order of the cells."""
        return True

    def fit(self, data: Data, jobs: Sequence[Job]) -> list[Fitted]:
        """Train all learning rates of all jobs together, choose, then train all jobs together."""
        training = StackedTraining(
            data,
            hidden=self.hidden,
            epochs=self.epochs,
            batch=self.batch,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
        )
        tried = self._try(data, jobs, training)
        middle = self.learning_rates[len(self.learning_rates) // 2]
        rates = [min(of_job, key=self._rank)["learning_rate"] if of_job else middle for of_job in tried]
        problems = [Problem(job.training.rows, job.seed, rate) for job, rate in zip(jobs, rates, strict=True)]
        heads = [MLPHead(*each) for each in training.run(problems)]
        return [
            Fitted(head, {"learning_rate": rate}, each) for head, rate, each in zip(heads, rates, tried, strict=True)
        ]

    def _try(self, data: Data, jobs: Sequence[Job], training: StackedTraining) -> list[list[dict[str, float]]]:
        """Log loss and accuracy of every learning rate, for each job; jobs that share an inner split share its fit."""
        wanted: dict[tuple[bytes, int, float], Problem] = {}
        for job in jobs:
            for fit, rate in self._candidates(job.training):
                wanted[fit.tobytes(), job.seed, rate] = Problem(fit, job.seed, rate)
        heads = dict(zip(wanted, (MLPHead(*each) for each in training.run(list(wanted.values()))), strict=True))
        tried = []
        for job in jobs:
            splits = job.training.inner[: self.inner_splits] if len(self.learning_rates) > 1 else ()
            scores = []
            for inner in splits:
                index = data.rows(inner.validation)
                keys = [(inner.fit.tobytes(), job.seed, rate) for rate in self.learning_rates]
                p = [heads[key].probabilities(data.x[index]) for key in keys]
                scores.append([validation_scores(each, data.y[index]) for each in p])
            sizes = [len(inner.validation) for inner in splits]
            tried.append(candidates([{"learning_rate": rate} for rate in self.learning_rates], scores, sizes))
        return tried

    def _candidates(self, training: TrainingSet) -> list[tuple[np.ndarray, float]]:
        if len(self.learning_rates) == 1:
            return []
        return [(inner.fit, rate) for inner in training.inner[: self.inner_splits] for rate in self.learning_rates]

    def _rank(self, tried: dict[str, float]) -> tuple[float, float]:
        """Less is better; of equally accurate ones that of less log loss."""
        return (tried["log_loss"], 0.0) if self.choose_by == "log_loss" else (-tried["accuracy"], tried["log_loss"])
