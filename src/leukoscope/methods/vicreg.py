from collections.abc import Mapping

import torch
from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead
from pydantic import Field
from torch import Tensor, nn

from leukoscope.common.settings import Settings
from leukoscope.encoders.backbone import feature_width
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.methods.gather import processes
from leukoscope.scores.spectrum import spread
from leukoscope.training.method import JointEmbedding, Progress


class VICRegSettings(Settings):
    """VICReg. The width is that of the paper on screening; the authors of the method took 8,192."""

    hidden: int = Field(default=2048, ge=1)
    dim: int = Field(default=2048, ge=2)
    invariance: float = Field(default=25.0, ge=0)
    variance: float = Field(default=25.0, ge=0)
    covariance: float = Field(default=1.0, ge=0)
    exact: bool = False
    """Take variance and covariance over all accumulated batches as one."""


class VICReg(JointEmbedding):
    r"""Variance, invariance, covariance (Bardes et al. 2022, arXiv:2105.04906, equations 1 to 6).

    Two views' projections are to be near each other, each dimension to keep a standard deviation of 1 over the batch,
    and no two dimensions to vary together: :math:`L = \lambda s(Z, Z') + \mu [v(Z) + v(Z')] + \nu [c(Z) + c(Z')]`.
    As in the authors' code, v is the mean over the two views, not their sum.

    Args:
        backbone: ``(B, C, S, S)`` to features ``(B, num_features)``.
        settings: see :class:`VICRegSettings`.
        cells: the number of cells in the training set.
        seed: seed of the head's weights.
    """

    views = (2, 2)

    def __init__(self, backbone: nn.Module, settings: VICRegSettings, *, cells: int, seed: int) -> None:
        super().__init__()
        self.encoder, self.exact = backbone, settings.exact
        with seeded_weights(seed):
            self.head = VICRegProjectionHead(
                feature_width(backbone),
                settings.hidden,
                settings.dim,
            )
        self.terms = VICRegLoss(
            settings.invariance, settings.variance, settings.covariance, gather_distributed=processes() > 1
        )

    def project(self, views: list[Tensor], progress: Progress) -> Tensor:
        """Projections ``(2, B, dim)``; see :meth:`JointEmbedding.project`."""
        return torch.stack([self.head(self.encoder(view)) for view in views]).float()

    def compare(self, z: Tensor, cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The three terms; see :meth:`JointEmbedding.compare`."""
        loss = self.terms(z[0], z[1])
        return loss, {"spread": spread(z[0])} if progress.logged else {}
