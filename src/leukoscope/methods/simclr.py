import math
from collections.abc import Mapping

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from leukoscope.common.settings import Settings
from leukoscope.encoders.backbone import feature_width
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.methods.crops import run_crops
from leukoscope.methods.gather import processes
from leukoscope.scores.spectrum import spread
from leukoscope.training.method import JointEmbedding, Progress


class SimCLRSettings(Settings):
    """SimCLR. The temperature is that of the paper on imaging flow cytometry, the head that of its authors."""

    temperature: float = Field(default=0.5, gt=0)
    dim: int = Field(default=128, ge=2)
    hidden: int | None = Field(default=None, ge=1)
    """Width of the head's hidden layers; None takes the encoder's (512 for ResNet-18)."""
    layers: int = Field(default=2, ge=2)
    head_norm: bool = True
    """Batch norm after every layer of the head, as in the authors' code."""
    exact: bool = False
    """Compare all accumulated batches as one: plain accumulation adds steps' gradients, but no negatives."""


class SimCLR(JointEmbedding):
    r"""Contrast of two views within a batch (Chen et al. 2020, arXiv:2002.05709, equation 1 and algorithm 1).

    A view is to find the other view of its cell among the 2N - 1 other views of a batch of N cells:
    :math:`\ell_{ij} = -\log \frac{\exp(z_i \cdot z_j / \tau)}{\sum_{k \neq i} \exp(z_i \cdot z_k / \tau)}`.

    Args:
        backbone: ``(B, C, S, S)`` to features ``(B, num_features)``.
        settings: see :class:`SimCLRSettings`.
        cells: the number of cells in the training set.
        seed: seed of the head's weights.
    """

    watched = ("top1",)
    views = (2, 2)

    def __init__(self, backbone: nn.Module, settings: SimCLRSettings, *, cells: int, seed: int) -> None:
        super().__init__()
        self.encoder, self.exact = backbone, settings.exact
        width = feature_width(backbone)
        with seeded_weights(seed):
            self.head = SimCLRProjectionHead(
                width, settings.hidden or width, settings.dim, settings.layers, settings.head_norm
            )
        self.nt_xent = NTXentLoss(settings.temperature, gather_distributed=processes() > 1)
        self.compared = 0

    def project(self, views: list[Tensor], progress: Progress) -> Tensor:
        """Unit vectors ``(2, B, dim)``; see :meth:`JointEmbedding.project`."""
        z = run_crops(lambda x: self.head(self.encoder(x)), views)
        return normalize(torch.stack(z).float(), dim=-1)

    def compare(self, z: Tensor, cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The normalised temperature-scaled cross-entropy; see :meth:`JointEmbedding.compare`."""
        loss = self.nt_xent(z[0], z[1])
        self.compared = z.shape[1] * processes()
        with torch.no_grad():
            to_other, to_same = z[0] @ z[1].T, (z[0] @ z[0].T).fill_diagonal_(-1)
            nearest = torch.maximum(to_other, to_same).argmax(dim=1)
            own = torch.arange(len(nearest), device=z.device)
            found = (nearest == own) & (to_other.diagonal() >= to_same.amax(dim=1))
        numbers = {"top1": found.float().mean()}
        if progress.logged:
            numbers["spread"] = spread(z[0])
        return loss, numbers

    def chance_loss(self) -> float | None:
        """``ln(2N - 1)``: the other view is as likely as any view in the batch."""
        return math.log(2 * self.compared - 1) if self.compared else None
