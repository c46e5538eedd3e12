from collections.abc import Mapping

import torch
from lightly.loss.lejepa_loss import SIGReg, lejepa_invariance_loss
from lightly.models.modules.heads import LeJEPAProjectionHead
from pydantic import Field
from torch import Tensor, nn

from leukoscope.common.settings import Settings
from leukoscope.encoders.backbone import feature_width
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.methods.crops import run_crops, split_crops
from leukoscope.methods.gather import processes
from leukoscope.scores.spectrum import spread
from leukoscope.training.method import JointEmbedding, Progress


class LeJEPASettings(Settings):
    """LeJEPA. The defaults are those of lightly's reference; the authors vary the trade-off from 0.01 to 0.1."""

    tradeoff: float = Field(default=0.05, ge=0, le=1)
    """Weight of SIGReg, the authors' lambda; the agreement of views has the rest."""
    hidden: int = Field(default=2048, ge=1)
    dim: int = Field(default=64, ge=2)
    layers: int = Field(default=3, ge=2)
    slices: int = Field(default=1024, ge=1)
    """Random directions along which the projections are compared with a normal distribution, anew each step."""
    knots: int = Field(default=17, ge=2)
    furthest: float = Field(default=3.0, gt=0)
    """Largest frequency at which characteristic functions are compared."""
    exact: bool = False
    """Compare all accumulated batches as one."""


class LeJEPA(JointEmbedding):
    r"""Latent-Euclidean joint embedding (Balestriero and LeCun 2025, arXiv:2511.08544).

    Every view is to be projected to the mean of its cell's global views, and all projections together are to be an
    isotropic normal distribution, which SIGReg tests along random directions by their characteristic function:
    :math:`L = \lambda \, \mathrm{SIGReg}(Z) + (1 - \lambda) \, \overline{(\mu - z)^2}`. No twin network, no
    stopped gradient, no negatives.

    Args:
        backbone: ``(B, C, S, S)`` to features ``(B, num_features)``.
        settings: see :class:`LeJEPASettings`.
        cells: the number of cells in the training set.
        seed: seed of the head's weights.
    """

    watched = ("invariance", "sigreg")
    views = (2, None)

    def __init__(self, backbone: nn.Module, settings: LeJEPASettings, *, cells: int, seed: int) -> None:
        super().__init__()
        self.encoder, self.exact, self.tradeoff = backbone, settings.exact, settings.tradeoff
        with seeded_weights(seed):
            self.head = LeJEPAProjectionHead(
                feature_width(backbone),
                settings.hidden,
                settings.dim,
                settings.layers,
            )
        self.sigreg = SIGReg(
            knots=settings.knots,
            t_max=settings.furthest,
            num_vectors=settings.slices,
            gather_distributed=processes() > 1,
        )
        self.globals = 0

    def project(self, views: list[Tensor], progress: Progress) -> Tensor:
        """Projections ``(V, B, dim)``, global views first; see :meth:`JointEmbedding.project`."""
        large, small = split_crops(views)
        self.globals = len(large)
        return torch.stack(run_crops(lambda x: self.head(self.encoder(x)), [*large, *small])).float()

    def compare(self, z: Tensor, cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The two terms; see :meth:`JointEmbedding.compare`."""
        invariance = lejepa_invariance_loss(all_proj=z, global_proj=z[: self.globals])
        sigreg = self.sigreg(z)
        loss = self.tradeoff * sigreg + (1 - self.tradeoff) * invariance
        numbers = {"invariance": invariance.detach(), "sigreg": sigreg.detach()}
        if progress.logged:
            numbers["spread"] = spread(z[0])
        return loss, numbers
