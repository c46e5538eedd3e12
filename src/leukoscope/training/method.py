from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Progress(NamedTuple):
    """Where the run stands. All randomness inside a method is drawn from ``(seed, step, batch)``.

    ``step`` counts optimiser steps from 0, of ``steps`` in all and ``per_epoch`` in an epoch; ``batch`` the batches
    accumulated within one step.
    ``logged`` tells that this step's numbers are written down: costly ones need not be computed at the others.
    """

    seed: int
    step: int
    steps: int
    epoch: int
    per_epoch: int = 1
    batch: int = 0
    logged: bool = False


Batched = Callable[[], Iterator[tuple[list[Tensor], Tensor]]]
"""An epoch's batches, anew at each call: views ``(B, C, S, S)`` and cells ``(B,)``, as :meth:`Method.loss` has them."""


class Method(nn.Module, ABC):
    """A pre-training method: networks, loss, and what moves by momentum. The loop knows nothing else about it.

    Everything that a resumed run needs is a parameter or a buffer. ``watched`` names the numbers that
    :meth:`loss` gives for every batch; their means are written to ``history.csv``. ``views`` is the least and the
    greatest number of views of a cell that it takes, None for any. A method that ``uses_labels`` is built with
    ``labels``, int64 ``(N,)``, the class of every cell.
    """

    encoder: nn.Module
    watched: tuple[str, ...] = ()
    views: tuple[int, int | None] = (1, None)
    uses_labels: bool = False

    @abstractmethod
    def loss(self, views: list[Tensor], cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of one batch, a scalar, and numbers to log, scalars without gradient.

        Args:
            views: float32 ``(B, C, S, S)``, normalised, one tensor a view.
            cells: int64 ``(B,)``, which cell each row is.
            progress: where the run stands.
        """

    def rate(self, progress: Progress) -> float:
        """A factor on the learning rate at this step, for methods that train in phases."""
        return 1.0

    def start_epoch(self, batches: Batched, progress: Progress) -> None:
        """What is done before an epoch, without gradients, such as clustering; ``batches`` runs through its views."""

    def before_step(self, progress: Progress) -> None:
        """What happens to the gradients before the optimiser's step: weights that are held for a while."""

    def after_step(self, progress: Progress) -> None:
        """What follows the optimiser's step: momentum encoders, queues, centres."""

    def online(self) -> nn.Module:
        """The network whose features are watched during training, and kept at the end."""
        return self.encoder

    def chance_loss(self) -> float | None:
        """The loss of features that say nothing, against which a stuck run is told; None where there is no such."""
        return None

    def encoder_state(self) -> dict[str, Tensor]:
        """Weights of the online encoder as the plain backbone takes them."""
        return dict(self.online().state_dict())


class JointEmbedding(Method):
    """A method whose loss compares the projections of a whole batch, and sees nothing else of the networks.

    Where ``exact`` is set, the batches that are accumulated into one step are compared as one batch, within the
    memory of one (:func:`~leukoscope.training.gradient.cached`); else each is compared by itself.
    """

    exact: bool = False

    @abstractmethod
    def project(self, views: list[Tensor], progress: Progress) -> Tensor:
        """Projections float32 ``(V, B, D)`` of V views ``(B, C, S, S)`` of each cell."""

    @abstractmethod
    def compare(self, z: Tensor, cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of projections ``(V, B, D)`` of cells ``(B,)``, a scalar, and numbers to log."""

    def loss(self, views: list[Tensor], cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of one batch; see :meth:`Method.loss`."""
        z = self.project(views, progress)
        with torch.autocast(z.device.type, enabled=False):
            return self.compare(z.float(), cells, progress)
