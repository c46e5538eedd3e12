from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from leukoscope.common.settings import Settings
from leukoscope.encoders.backbone import feature_width
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.methods.crops import run_crops
from leukoscope.methods.gather import gather, gather_with_gradient, processes, rank
from leukoscope.scores.spectrum import spread
from leukoscope.training.method import JointEmbedding, Progress


class SupConSettings(Settings):
    """Supervised contrast. The defaults are those of the thesis on hairy cells (table 4.8)."""

    temperature: float = Field(default=0.1, gt=0)
    dim: int = Field(default=128, ge=2)
    """Units of the projection head: 16 or 128 in the thesis."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    head_epochs: float = Field(default=7.0, ge=0)
    """Epochs of the first step, in which the encoder is frozen and the head alone learns; of ``train.epochs``."""
    head_rate: float = Field(default=100.0, gt=0)
    """The first step's learning rate, as a multiple of ``train.lr`` (1e-3 and 1e-5 in the thesis)."""
    reduction: Literal["mean", "sum"] = "mean"
    """Equation 13 sums over the views of a batch; the mean, as in the authors' code, does not grow with it."""
    exact: bool = False
    """Compare all accumulated batches as one."""


class SupCon(JointEmbedding):
    r"""Supervised contrast (Khosla et al. 2020, arXiv:2004.11362; hairy-cells-supcon, equation 13). It uses labels.

    Every view is drawn to the views of all cells of its class in the batch, and away from the rest:
    :math:`L = \sum_i \frac{-1}{|P(i)|} \sum_{p \in P(i)} \log \frac{\exp(z_i \cdot z_p / \tau)}{\sum_{a \neq i}
    \exp(z_i \cdot z_a / \tau)}`. Features are normalised before the head and after it. The head learns first, alone:
    without that step the thesis saw projections collapse to a point.

    Args:
        backbone: ``(B, C, S, S)`` to features ``(B, num_features)``.
        settings: see :class:`SupConSettings`.
        cells: the number of cells in the training set.
        seed: seed of the head's weights.
        labels: the class of every cell, int64 ``(cells,)``.
    """

    watched = ("top1", "projection_spread")
    views = (2, 2)
    uses_labels = True
    labels: Tensor

    def __init__(self, backbone: nn.Module, settings: SupConSettings, *, cells: int, seed: int, labels: Tensor) -> None:
        super().__init__()
        self.settings, self.encoder, self.exact = settings, backbone, settings.exact
        with seeded_weights(seed):
            self.head = nn.Sequential(
                nn.Dropout(settings.dropout),
                nn.Linear(feature_width(backbone), settings.dim),
            )
        self.register_buffer("labels", labels, persistent=False)

    def rate(self, progress: Progress) -> float:
        """The head's own rate while it learns alone."""
        return self.settings.head_rate if self._head_alone(progress) else 1.0

    def project(self, views: list[Tensor], progress: Progress) -> Tensor:
        """Unit vectors ``(2, B, dim)``; see :meth:`JointEmbedding.project`."""
        features = self._frozen(views) if self._head_alone(progress) else run_crops(self.encoder, views)
        z = [self.head(normalize(each.float(), dim=1)) for each in features]
        projections = normalize(torch.stack(z).float(), dim=-1)
        # Several processes wait for a gradient of every weight; those of the encoder are then dropped unused.
        waited = self._head_alone(progress) and processes() > 1
        return projections + 0 * self._sum_of_weights() if waited else projections

    def before_step(self, progress: Progress) -> None:
        """Hold the encoder while the head learns alone."""
        if self._head_alone(progress):
            for weight in self.encoder.parameters():
                weight.grad = None

    def compare(self, z: Tensor, cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Equation 13 over the views of this process, against those of all; see :meth:`JointEmbedding.compare`."""
        classes = self.labels[cells].repeat(2)
        mine = torch.cat([z[0], z[1]])
        everyone, all_classes = gather_with_gradient(mine), gather(classes)
        own = torch.arange(len(mine), device=z.device) + rank() * len(mine)
        each = supervised_contrast(mine, classes, everyone, all_classes, own, self.settings.temperature)
        loss = each.mean() if self.settings.reduction == "mean" else each.sum() * processes()
        with torch.no_grad():
            nearest = (mine @ everyone.T).scatter(1, own[:, None], -2.0).argmax(dim=1)
            top1 = (all_classes[nearest] == classes).float().mean()
        return loss, {"top1": top1, "projection_spread": spread(mine)}

    def _head_alone(self, progress: Progress) -> bool:
        return progress.step < self.settings.head_epochs * progress.per_epoch

    def _sum_of_weights(self) -> Tensor:
        return torch.stack([weight.sum() for weight in self.encoder.parameters()]).sum()

    @torch.no_grad()
    def _frozen(self, views: list[Tensor]) -> list[Tensor]:
        """Features of the encoder as it stands; its batch norms take their running statistics, as frozen ones do."""
        self.encoder.eval()
        features = run_crops(self.encoder, views)
        self.encoder.train()
        return features


def supervised_contrast(
    z: Tensor, classes: Tensor, others: Tensor, other_classes: Tensor, own: Tensor, temperature: float
) -> Tensor:
    """The loss of every view, float32 ``(n,)``: a term of the outer sum of equation 13.

    Args:
        z: views, ``(n, dim)`` of unit length.
        classes: their classes, int64 ``(n,)``.
        others: what they are compared with, ``(m, dim)``, themselves among it.
        other_classes: the classes of those, int64 ``(m,)``.
        own: where each of the ``n`` stands among the ``m``, int64 ``(n,)``.
        temperature: divides the similarities.
    """
    logits = (z @ others.T / temperature).scatter(1, own[:, None], float("-inf"))
    log_p = logits.log_softmax(dim=1)
    positive = (classes[:, None] == other_classes).scatter(1, own[:, None], value=False)
    return -log_p.masked_fill(~positive, 0.0).sum(dim=1) / positive.sum(dim=1)
