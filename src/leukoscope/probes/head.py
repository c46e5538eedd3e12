from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from leukoscope.probes.nested import TrainingSet


class Head(Protocol):
    """A fitted head: features in, class probabilities out."""

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities ``(n, K)`` float32 of features ``(n, D)`` float32 on the head's device."""

    def state(self) -> dict[str, Tensor]:
        """Everything that :meth:`from_state` needs, as tensors on the CPU."""


@dataclass(frozen=True)
class Data:
    """Features ``x`` ``(N, D)`` float32 and classes ``y`` ``(N,)`` int64 on one device, of ``n_classes`` classes."""

    x: Tensor
    y: Tensor
    n_classes: int

    def rows(self, rows: np.ndarray) -> Tensor:
        """Row numbers as a tensor on the device of the data."""
        return torch.from_numpy(rows).to(self.x.device)


@dataclass(frozen=True)
class Job:
    """One head to fit: on which cells, and from which seed."""

    training: TrainingSet
    seed: int = 0


@dataclass(frozen=True)
class Fitted:
    """A head, the hyper-parameters ``chosen`` for it, and its ``tried`` values with what they scored inside."""

    head: Head
    chosen: dict[str, float]
    tried: list[dict[str, float]]


class Probe(Protocol):
    """How to fit one kind of head: settings, and a way to fit many heads on shared features at once."""

    @property
    def seeded(self) -> bool:
        """Whether the seed changes the head; one that does not is fitted and reported once."""

    def fit(self, data: Data, jobs: Sequence[Job]) -> list[Fitted]:
        """Choose hyper-parameters for each job by its inner splits, then fit on all its training cells."""

    def model_dump(self) -> dict[str, Any]:
        """The settings as plain values."""
