import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from lightly.models.modules.heads import MoCoProjectionHead
from lightly.utils.scheduler import cosine_schedule
from pydantic import Field
from torch import Tensor, nn

from leukoscope.common.runs import log
from leukoscope.common.settings import Settings
from leukoscope.encoders.backbone import feature_width
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.methods.gather import gather, processes, rank
from leukoscope.methods.queue import KeyQueue
from leukoscope.methods.split_norm import check_groups, joined_state, split_batch_norm
from leukoscope.methods.twin import follow, momentum_twin
from leukoscope.scores.spectrum import spread
from leukoscope.training.method import Method, Progress

# The paper's queue and momentum come to 0.26. Short runs on blood smears learned at 0.08, and at 0.4 and above their
# top-1 accuracy rose and fell again as the learning rate ended; see docs/methods.md.
_OLD_KEYS = 0.3


class MoCoSettings(Settings):
    """MoCo v2. The defaults are those of the paper on imaging flow cytometry, which are its authors'."""

    queue: int = Field(default=65_536, ge=1)
    temperature: float = Field(default=0.07, gt=0)
    momentum: float = Field(default=0.999, ge=0, le=1)
    momentum_end: float | None = Field(default=None, ge=0, le=1)
    """Where a cosine carries the momentum by the end of training (MoCo v3 takes 1); None keeps it."""
    dim: int = Field(default=128, ge=2)
    hidden: int | None = Field(default=None, ge=1)
    """Width of the head's hidden layer; None takes the encoder's (512 for ResNet-18)."""
    head_norm: bool = False
    """Batch norm after both layers of the head, as in MoCo v3."""
    norm_groups: int = Field(default=8, ge=1)
    """Groups of a batch with batch-norm statistics of their own, over all devices: the authors had eight devices."""
    shuffle: bool = True
    """Whether keys are shuffled among the groups."""


class MoCo(Method):
    r"""Momentum contrast, version 2 (Chen et al. 2020, arXiv:2003.04297; MoCo: He et al. 2020, arXiv:1911.05722).

    A query is to find its key, another view of the same cell made by a slowly moving twin of the encoder, among a
    queue of K older keys: :math:`L = -\log \frac{\exp(q \cdot k_+ / \tau)}{\sum_{i=0}^{K} \exp(q \cdot k_i / \tau)}`.
    Where the queue is longer than half the set, it holds keys of the query's own cell; those are masked.

    Args:
        backbone: ``(B, C, S, S)`` to features ``(B, num_features)``.
        settings: see :class:`MoCoSettings`.
        cells: the number of cells in the training set.
        seed: seed of the head's weights and of the queue's first keys.
    """

    watched = ("top1",)
    views = (2, 2)

    def __init__(self, backbone: nn.Module, settings: MoCoSettings, *, cells: int, seed: int) -> None:
        super().__init__()
        self.settings = settings
        self.groups = max(1, settings.norm_groups // processes())
        width = feature_width(backbone)
        with seeded_weights(seed):
            head = MoCoProjectionHead(width, settings.hidden or width, settings.dim, batch_norm=settings.head_norm)
        # A head that normalises over the whole batch would leak as an encoder does.
        self.head = split_batch_norm(head, self.groups)
        self.encoder = split_batch_norm(backbone, self.groups)
        self.key_encoder = momentum_twin(self.encoder)
        self.key_head = momentum_twin(self.head)
        self.queue = KeyQueue(settings.queue, settings.dim, seed)
        self.masked = settings.queue > cells / 2
        if self.masked:
            log.warning(
                f"queue {settings.queue} is longer than half the set of {cells} cells: keys of the query's own cell "
                f"are masked; a queue of {cells // 2} or less needs no mask"
            )
        self._fresh: list[tuple[Tensor, Tensor]] = []

    def loss(self, views: list[Tensor], cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """InfoNCE of queries (first view) against keys (second view) and the queue; see :meth:`Method.loss`."""
        query_view, key_view = views
        check_groups(len(cells), self.groups)
        q = F.normalize(self.head(self.encoder(query_view)).float(), dim=1)  # (B, dim)
        k = self._keys(key_view, progress)  # (B, dim)
        own = self.queue.cells == cells[:, None] if self.masked else None  # (B, K)
        logits = info_nce_logits(q, k, self.queue.keys, self.settings.temperature, own)  # (B, 1 + K)
        loss = F.cross_entropy(logits, torch.zeros_like(cells))
        self._fresh.append((gather(k), gather(cells)))
        with torch.no_grad():
            top1 = (logits[:, 0] > logits[:, 1:].amax(dim=1)).float().mean()
        numbers = {"top1": top1}
        if progress.logged:
            numbers["spread"] = spread(q)
        return loss, numbers

    def after_step(self, progress: Progress) -> None:
        """Move the key encoder towards the query encoder, and queue the step's keys."""
        momentum = self.momentum_at(progress)
        follow(self.encoder, self.key_encoder, momentum)
        follow(self.head, self.key_head, momentum)
        if progress.step == 0:
            self._warn_of_old_keys(momentum)
        for keys, cells in self._fresh:
            self.queue.push(keys, cells)
        self._fresh.clear()

    def momentum_at(self, progress: Progress) -> float:
        """The momentum of the key encoder at this step."""
        start, end = self.settings.momentum, self.settings.momentum_end
        return start if end is None else cosine_schedule(progress.step, progress.steps, start, end)

    def chance_loss(self) -> float:
        """``ln(K + 1)``: the key is as likely as any other."""
        return math.log(len(self.queue) + 1)

    def encoder_state(self) -> dict[str, Tensor]:
        """The query encoder's weights, its batch norms joined."""
        return joined_state(self.encoder)

    def _warn_of_old_keys(self, momentum: float) -> None:
        """A fresh key stands out among keys of a twin that has moved far since, whatever the cell looks like."""
        steps = len(self.queue) / sum(len(cells) for _, cells in self._fresh)
        if steps * (1 - momentum) > _OLD_KEYS:
            log.warning(
                f"queue {len(self.queue)}: its oldest keys are {steps:.0f} steps old, in which momentum {momentum:g} "
                "moves the key encoder far: the loss may fall by telling old keys from fresh ones; shorten the queue"
            )

    @torch.no_grad()
    def _keys(self, view: Tensor, progress: Progress) -> Tensor:
        """Keys ``(B, dim)``, made in an order that puts other cells into a group than the queries' order does."""
        if not self.settings.shuffle:
            return F.normalize(self.key_head(self.key_encoder(view)).float(), dim=1)
        # Over several processes cells move between them, too, as in the authors' code: all see one permutation.
        everything = gather(view)
        drawn = torch.Generator().manual_seed(_seed_of(progress))
        order = torch.randperm(len(everything), generator=drawn).to(view.device)
        mine = slice(rank() * len(view), (rank() + 1) * len(view))
        shuffled = F.normalize(self.key_head(self.key_encoder(everything[order[mine]])).float(), dim=1)
        return gather(shuffled)[order.argsort()[mine]]


def info_nce_logits(q: Tensor, k: Tensor, queue: Tensor, temperature: float, own: Tensor | None = None) -> Tensor:
    """Logits ``(B, 1 + K)`` of each query: its key first, then the queue's (algorithm 1 of arXiv:1911.05722).

    Args:
        q: queries ``(B, dim)``, of unit length.
        k: their keys ``(B, dim)``, of unit length.
        queue: other keys ``(K, dim)``, of unit length.
        temperature: divides the similarities.
        own: bool ``(B, K)``, keys that are no negatives of a query; None where all are.
    """
    with torch.autocast(q.device.type, enabled=False):
        positive = (q * k).sum(dim=1, keepdim=True)
        negative = q @ queue.T
    if own is not None:
        negative = negative.masked_fill(own, float("-inf"))
    return torch.cat([positive, negative], dim=1) / temperature


def _seed_of(progress: Progress) -> int:
    """A seed of its own for each batch of each step."""
    state = np.random.SeedSequence([progress.seed, progress.step, progress.batch]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
