import math
from collections.abc import Mapping

import torch
from lightly.loss import SwaVLoss
from lightly.models.modules.heads import ProjectionHead
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings
from leukoscope.encoders.backbone import feature_width
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.methods.crops import run_crops, split_crops
from leukoscope.methods.gather import gather, processes, rank
from leukoscope.methods.queue import KeyQueue
from leukoscope.scores.spectrum import spread
from leukoscope.training.method import Method, Progress


class SwAVSettings(Settings):
    """SwAV. The number of prototypes is that of the paper on screening; the rest is its authors'."""

    prototypes: int = Field(default=500, ge=2)
    hidden: int = Field(default=2048, ge=1)
    dim: int = Field(default=128, ge=2)
    layers: int = Field(default=2, ge=2)
    temperature: float = Field(default=0.1, gt=0)
    epsilon: float = Field(default=0.05, gt=0)
    """How far codes are smoothed by Sinkhorn-Knopp; smaller is sharper."""
    iterations: int = Field(default=3, ge=1)
    queue: int = Field(default=0, ge=0)
    """Older projections of each global view that share in the codes; the paper on screening takes 2,560."""
    queue_from_epoch: int = Field(default=15, ge=0)
    frozen_epochs: float = Field(default=1.0, ge=0)
    """Epochs in which the prototypes stay as they were drawn; the 313 steps of the authors are one of theirs."""


class SwAV(Method):
    r"""Swapped assignments (Caron et al. 2020, arXiv:2006.09882, equations 1 to 5), with multi-crop.

    Projections are assigned to learned prototypes so that all are used equally often (Sinkhorn-Knopp); from every
    other view of a cell its assignment q in one global view is to be predicted: :math:`\ell(z_t, q_s) =
    -\sum_k q_s^{(k)} \log p_t^{(k)}`, with p the softmax of :math:`z_t \cdot c_k / \tau`.

    Args:
        backbone: ``(B, C, S, S)`` to features ``(B, num_features)``.
        settings: see :class:`SwAVSettings`.
        cells: the number of cells in the training set.
        seed: seed of head and prototypes.
    """

    watched = ("prototypes",)
    views = (2, None)

    def __init__(self, backbone: nn.Module, settings: SwAVSettings, *, cells: int, seed: int) -> None:
        super().__init__()
        self.settings, self.encoder = settings, backbone
        with seeded_weights(seed):
            self.head = projection_head(backbone, settings.hidden, settings.dim, settings.layers)
            self.prototypes = nn.Linear(settings.dim, settings.prototypes, bias=False)
        self._normalise_prototypes()
        self.swap = SwaVLoss(
            settings.temperature, settings.iterations, settings.epsilon, sinkhorn_gather_distributed=processes() > 1
        )
        # One queue for each of the first two global views, the same in all processes; each takes its share of it.
        self.queues = [
            KeyQueue(settings.queue, settings.dim, seed + number) for number in range(2 if settings.queue else 0)
        ]
        self._queues = nn.ModuleList(self.queues)
        self._fresh: list[tuple[list[Tensor], Tensor]] = []

    def loss(self, views: list[Tensor], cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The swapped prediction of codes; see :meth:`Method.loss`."""
        large, small = split_crops(views)
        if len(large) < 2:
            raise InputError("swav: codes are swapped between global views; let the policy make two of the full size")
        z = run_crops(lambda x: normalize(self.head(self.encoder(x)).float(), dim=1), [*large, *small])
        with torch.autocast(z[0].device.type, enabled=False):
            scores = [self.prototypes(view) for view in z]  # (B, prototypes) each
            loss = self.swap(scores[: len(large)], scores[len(large) :], self._queued(len(large), progress)).squeeze()
        if self.queues:
            self._fresh.append(([gather(view.detach()) for view in z[:2]], gather(cells)))
        with torch.no_grad():
            used = (scores[0] / self.settings.temperature).softmax(dim=1).mean(dim=0)
        numbers = {"prototypes": torch.special.entr(used).sum().exp()}
        if progress.logged:
            numbers["spread"] = spread(z[0])
        return loss, numbers

    def before_step(self, progress: Progress) -> None:
        """Hold the prototypes for the first epochs, as the authors do."""
        if progress.step < self.settings.frozen_epochs * progress.per_epoch:
            self.prototypes.weight.grad = None

    def after_step(self, progress: Progress) -> None:
        """Put the prototypes back on the unit sphere, and queue the step's projections."""
        self._normalise_prototypes()
        for views, cells in self._fresh:
            for queue, projections in zip(self.queues, views, strict=True):
                queue.push(projections, cells)
        self._fresh.clear()

    def chance_loss(self) -> float:
        """``ln K``: every prototype is as likely as any other."""
        return math.log(self.settings.prototypes)

    def _queued(self, large: int, progress: Progress) -> list[Tensor] | None:
        """Scores of older projections, one tensor a global view; None until the queues are full and due."""
        if not self.queues or progress.epoch < self.settings.queue_from_epoch:
            return None
        if not all(queue.full for queue in self.queues):
            return None
        with torch.no_grad():
            older = [self.prototypes(queue.keys[rank() :: processes()]) for queue in self.queues]
        return [older[min(view, 1)] for view in range(large)]

    @torch.no_grad()
    def _normalise_prototypes(self) -> None:
        self.prototypes.weight.copy_(normalize(self.prototypes.weight, dim=1))


def projection_head(backbone: nn.Module, hidden: int, dim: int, layers: int) -> ProjectionHead:
    """The authors' head: hidden layers with batch norm and ReLU, then a linear layer to ``dim``."""
    width = feature_width(backbone)
    inside = [(width if n == 0 else hidden, hidden, nn.BatchNorm1d(hidden), nn.ReLU()) for n in range(layers - 1)]
    return ProjectionHead([*inside, (hidden, dim, None, None)])
