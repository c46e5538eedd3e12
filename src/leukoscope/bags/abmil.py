import torch
from pydantic import Field
from torch import Tensor, nn

from leukoscope.bags.model import BagModel, Judged
from leukoscope.bags.pooling import softmax_in_bags, weighted_sums
from leukoscope.common.settings import Settings


class ABMILSettings(Settings):
    """Attention-based pooling. The width is that of its authors."""

    attention: int = Field(default=128, ge=1)
    gated: bool = True
    hidden: int | None = Field(default=None, ge=1)
    """Width of a layer with ReLU between the bag and its logits, as dinobloom has one; None: one linear layer."""


class ABMIL(BagModel):
    r"""Attention-based pooling (Ilse et al. 2018, arXiv:1802.04712, equations 8 and 9).

    :math:`a_n = \mathrm{softmax}_n \; w^\top (\tanh(V x_n) \odot \sigma(U x_n))`, the gate :math:`\sigma(U x_n)` where
    it is ``gated``, and the bag is :math:`\sum_n a_n x_n`.

    Args:
        features: k.
        classes: K.
        settings: see :class:`ABMILSettings`.
    """

    def __init__(self, features: int, classes: int, settings: ABMILSettings) -> None:
        super().__init__()
        self.tanh = nn.Linear(features, settings.attention)
        self.gate = nn.Linear(features, settings.attention) if settings.gated else None
        self.score = nn.Linear(settings.attention, 1, bias=False)
        self.classify = classifier(features, classes, settings.hidden)

    def forward(self, x: Tensor, bag: Tensor, n_bags: int) -> Judged:
        """See :meth:`BagModel.forward`; attention has one column."""
        hidden = torch.tanh(self.tanh(x))
        if self.gate is not None:
            hidden = hidden * torch.sigmoid(self.gate(x))
        attention = softmax_in_bags(self.score(hidden), bag, n_bags)
        return Judged(self.classify(weighted_sums(attention, x, bag, n_bags)[:, 0]), attention)


def classifier(features: int, classes: int, hidden: int | None) -> nn.Module:
    """A linear layer, or two with ReLU between them."""
    if hidden is None:
        return nn.Linear(features, classes)
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))
