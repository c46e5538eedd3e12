from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import MultiStepLR

from leukoscope.common.progress import progress
from leukoscope.common.settings import Settings
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.probes.head import Data, Fitted, Job
from leukoscope.probes.linear import LinearHead
from leukoscope.probes.mlp_training import Problem, cell_order
from leukoscope.probes.selection import candidates, validation_scores


class StepwiseProbe(Settings):
    """A linear layer on features as they come, trained step by step as the paper on screening does (section 3.3).

    "We trained this layer for 150 epochs and with a batch size of 32. The optimizer was SGD with a learning rate set to
    0.001 and momentum to 0.9. We also used a step scheduler with gamma value set to 0.1 at 40, 70 and 120 epochs."
    Where several learning rates are given, the most accurate on held-out cells of the training fold (its first inner
    split) is taken: the paper's "line search", of which it says no more.
    """

    learning_rates: tuple[float, ...] = Field(default=(0.001,), min_length=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    epochs: int = Field(default=150, ge=1)
    batch: int = Field(default=32, ge=1)
    milestones: tuple[int, ...] = (40, 70, 120)
    gamma: float = Field(default=0.1, gt=0, le=1)

    @property
    def seeded(self) -> bool:
        """The seed draws the first weights and the order of the cells."""
        return True

    def fit(self, data: Data, jobs: Sequence[Job]) -> list[Fitted]:
        """Choose the learning rate of each job inside its training cells, then train on all of them."""
        with progress("linear layers", len(jobs), "heads") as advance:
            fitted = []
            for job in jobs:
                fitted.append(self._fit(data, job))
                advance(1)
        return fitted

    def _fit(self, data: Data, job: Job) -> Fitted:
        tried = self._try(data, job)
        first = {"learning_rate": self.learning_rates[0]}
        best = max(tried, key=lambda each: (each["accuracy"], -each["log_loss"]), default=first)["learning_rate"]
        return Fitted(self._train(data, job.training.rows, best, job.seed), {"learning_rate": best}, tried)

    def _try(self, data: Data, job: Job) -> list[dict[str, float]]:
        splits = job.training.inner[:1] if len(self.learning_rates) > 1 else ()
        scores = []
        for inner in splits:
            index = data.rows(inner.validation)
            heads = [self._train(data, inner.fit, rate, job.seed) for rate in self.learning_rates]
            scores.append([validation_scores(head.probabilities(data.x[index]), data.y[index]) for head in heads])
        values = [{"learning_rate": rate} for rate in self.learning_rates]
        return candidates(values, scores, [len(inner.validation) for inner in splits])

    def _train(self, data: Data, rows: np.ndarray, rate: float, seed: int) -> LinearHead:
        with seeded_weights(seed):
            layer = nn.Linear(data.x.shape[1], data.n_classes).to(data.x.device)
        optimiser = torch.optim.SGD(layer.parameters(), lr=rate, momentum=self.momentum)
        schedule = MultiStepLR(optimiser, list(self.milestones), self.gamma)
        batch = min(self.batch, len(rows))
        steps = -(-len(rows) // batch)
        order = cell_order(Problem(rows, seed, rate), batch, self.epochs * steps).to(data.x.device)
        for epoch in torch.split(order, steps):
            for index in epoch:
                optimiser.zero_grad()
                torch.autograd.backward(F.cross_entropy(layer(data.x[index]), data.y[index]))
                optimiser.step()
            schedule.step()
        return LinearHead(layer.weight.detach(), layer.bias.detach())
