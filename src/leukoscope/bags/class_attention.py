from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn

from leukoscope.bags.model import BagModel, Judged
from leukoscope.bags.pooling import softmax_in_bags, weighted_sums
from leukoscope.common.settings import Settings


class ClassAttentionSettings(Settings):
    """The paper gives no widths. Here four layers narrow 512 features step by step.

    The predecessor's public code (Hehr et al. 2023) widens them first: 768, 1024, and k' = 500.
    """

    widths: tuple[int, ...] = (384, 256, 192)
    """Of the reduction network's layers before its last; aml-ssl-mil has four layers in all."""
    reduced: int = Field(default=128, ge=1)
    """k', what the reduction network leaves of k features."""
    attention: int = Field(default=128, ge=1)
    hidden: int = Field(default=64, ge=1)
    """Of each class's own classifier."""


class ClassAttention(BagModel):
    r"""Attention of its own for every class (aml-ssl-mil, equations 7 to 9; Hehr et al. 2023).

    A learnable network reduces the features z of every cell to z'; two linear layers give it a score for each class,
    whose softmax over the bag is the attention a; the bag is for every class c the sum :math:`Z^c = \sum_n a_n^c z'_n`,
    of which a classifier of the class's own makes one logit.

    Over pooled features the reduction network's convolutions are 1x1, and so linear layers.

    Args:
        features: k.
        classes: K.
        settings: see :class:`ClassAttentionSettings`.
    """

    def __init__(self, features: int, classes: int, settings: ClassAttentionSettings) -> None:
        super().__init__()
        widths = (features, *settings.widths, settings.reduced)
        layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
        self.reduce = nn.Sequential(*(part for layer in layers for part in layer))
        for layer in self.reduce:
            if isinstance(layer, nn.Linear):
                # torch's own start shrinks what passes through four layers with ReLU until nothing is learned.
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        self.attend = nn.Sequential(
            nn.Linear(settings.reduced, settings.attention), nn.Tanh(), nn.Linear(settings.attention, classes)
        )
        self.classify = nn.ModuleList(
            nn.Sequential(nn.Linear(settings.reduced, settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, 1))
            for _ in range(classes)
        )

    def forward(self, x: Tensor, bag: Tensor, n_bags: int) -> Judged:
        """See :meth:`BagModel.forward`; attention has a column for every class."""
        reduced = self.reduce(x)
        attention = softmax_in_bags(self.attend(reduced), bag, n_bags)
        bags = weighted_sums(attention, reduced, bag, n_bags)  # (B, K, k')
        logits = [own(bags[:, place]) for place, own in enumerate(self.classify)]
        return Judged(torch.cat(logits, dim=1), attention)
