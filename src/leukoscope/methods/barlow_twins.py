from collections.abc import Mapping

import torch
from lightly.loss import BarlowTwinsLoss
from lightly.models.modules.heads import BarlowTwinsProjectionHead
from pydantic import Field
from torch import Tensor, nn

from leukoscope.common.settings import Settings
from leukoscope.encoders.backbone import feature_width
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.methods.gather import gather_with_gradient
from leukoscope.scores.spectrum import spread
from leukoscope.training.method import JointEmbedding, Progress


class BarlowTwinsSettings(Settings):
    """Barlow Twins. The width is that of the paper on screening; the authors of the method took 8,192."""

    hidden: int = Field(default=2048, ge=1)
    dim: int = Field(default=2048, ge=2)
    redundancy: float = Field(default=5e-3, gt=0)
    """Weight of the redundancy-reduction term, the authors' lambda."""
    scale: float = Field(default=1.0, gt=0)
    """Factor of the whole loss; the authors' code takes 0.024."""
    exact: bool = False
    """Correlate over all accumulated batches as one."""


class BarlowTwins(JointEmbedding):
    r"""Redundancy reduction (Zbontar et al. 2021, arXiv:2103.03230, equation 1).

    The cross-correlation C of two views' projections over the batch is to be the identity:
    :math:`L = \sum_i (1 - C_{ii})^2 + \lambda \sum_{i \neq j} C_{ij}^2`.

    Args:
        backbone: ``(B, C, S, S)`` to features ``(B, num_features)``.
        settings: see :class:`BarlowTwinsSettings`.
        cells: the number of cells in the training set.
        seed: seed of the head's weights.
    """

    views = (2, 2)

    def __init__(self, backbone: nn.Module, settings: BarlowTwinsSettings, *, cells: int, seed: int) -> None:
        super().__init__()
        self.encoder, self.exact, self.scale = backbone, settings.exact, settings.scale
        with seeded_weights(seed):
            self.head = BarlowTwinsProjectionHead(
                feature_width(backbone),
                settings.hidden,
                settings.dim,
            )
        self.correlation = BarlowTwinsLoss(settings.redundancy)

    def project(self, views: list[Tensor], progress: Progress) -> Tensor:
        """Projections ``(2, B, dim)``; see :meth:`JointEmbedding.project`."""
        return torch.stack([self.head(self.encoder(view)) for view in views]).float()

    def compare(self, z: Tensor, cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of the cross-correlation; see :meth:`JointEmbedding.compare`."""
        # Gathered before they are standardised, as the authors synchronise that batch norm over all processes.
        loss = self.scale * self.correlation(gather_with_gradient(z[0]), gather_with_gradient(z[1]))
        return loss, {"spread": spread(z[0])} if progress.logged else {}
