import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from leukoscope.common.progress import progress
from leukoscope.probes.adamw import StackedAdamW
from leukoscope.probes.basis import moments
from leukoscope.probes.head import Data
from leukoscope.probes.stacked import forward, initial

# Models trained side by side. A CPU is filled by few, whose weights then stay nearer to its caches.
_TOGETHER = {"cpu": 2, "cuda": 64, "mps": 16}


@dataclass(frozen=True)
class Problem:
    """One MLP to train: on which rows ``(n,)``, from which seed, at which peak learning rate."""

    rows: np.ndarray
    seed: int
    learning_rate: float


@dataclass(frozen=True)
class StackedTraining:
    """Trains many MLPs on shared features at once: stacked weights, each with its own cells, order and learning rate.

    What a model becomes depends on its problem alone, up to the rounding of batched products, not on its company.
    """

    data: Data
    hidden: tuple[int, ...]
    epochs: int
    batch: int
    weight_decay: float
    label_smoothing: float

    def run(self, problems: Sequence[Problem]) -> list[tuple[Tensor, Tensor, tuple[Tensor, ...]]]:
        """Mean ``(D,)``, standard deviation ``(D,)`` and parameters of each problem's model."""
        alike = defaultdict(list)
        for number, problem in enumerate(problems):
            alike[min(self.batch, len(problem.rows))].append(number)
        size = _TOGETHER[self.data.x.device.type]
        found: dict[int, tuple[Tensor, Tensor, tuple[Tensor, ...]]] = {}
        with progress("MLP heads", len(problems), "heads") as advance:
            for batch, numbers in alike.items():
                for start in range(0, len(numbers), size):
                    chunk = numbers[start : start + size]
                    found.update(zip(chunk, self._together([problems[i] for i in chunk], batch), strict=True))
                    advance(len(chunk))
        return [found[i] for i in range(len(problems))]

    def _together(self, problems: Sequence[Problem], batch: int) -> list[tuple[Tensor, Tensor, tuple[Tensor, ...]]]:
        data = self.data
        scales = [moments(data.x[data.rows(each.rows)]) for each in problems]
        mean, std = (torch.stack(each) for each in zip(*scales, strict=True))
        sizes = (data.x.shape[1], *self.hidden, data.n_classes)
        first = [initial(sizes, each.seed) for each in problems]
        parameters = [torch.stack(each).to(data.x.device).requires_grad_() for each in zip(*first, strict=True)]
        optimiser = StackedAdamW(parameters, weight_decay=self.weight_decay)
        n_steps = [math.ceil(self.epochs * len(each.rows) / batch) for each in problems]
        order = [cell_order(each, batch, n).to(data.x.device) for each, n in zip(problems, n_steps, strict=True)]
        for step in range(max(n_steps)):
            # A model whose steps are over goes along at rate 0, which leaves it as it is.
            index = torch.stack([each[min(step, len(each) - 1)] for each in order])
            x = (data.x[index] - mean[:, None]) / std[:, None]
            loss = self._loss(forward(parameters, x), data.y[index])
            rates = [each.learning_rate * cosine(step, n) for each, n in zip(problems, n_steps, strict=True)]
            optimiser.step(torch.autograd.grad(loss, parameters), torch.tensor(rates, device=x.device))
        trained = [each.detach() for each in parameters]
        return [(mean[i], std[i], tuple(each[i].clone() for each in trained)) for i in range(len(problems))]

    def _loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The sum over models of their mean loss, so that each gets the gradient of its own."""
        flat = F.cross_entropy(logits.flatten(0, 1), y.flatten(), label_smoothing=self.label_smoothing, reduction="sum")
        return flat / y.shape[1]


def cell_order(problem: Problem, batch: int, n_steps: int) -> Tensor:
    """The rows of every batch ``(n_steps, batch)``: one permutation after another, cut into batches."""
    generator = torch.Generator().manual_seed(problem.seed)
    rows = torch.from_numpy(problem.rows)
    rounds = math.ceil(n_steps * batch / len(rows))
    order = torch.cat([rows[torch.randperm(len(rows), generator=generator)] for _ in range(rounds)])
    return order[: n_steps * batch].view(n_steps, batch)


def cosine(step: int, n_steps: int) -> float:
    """The share of the peak learning rate at ``step``: from 1 down towards 0, and 0 from ``n_steps`` on."""
    return (1 + math.cos(math.pi * step / n_steps)) / 2 if step < n_steps else 0.0
