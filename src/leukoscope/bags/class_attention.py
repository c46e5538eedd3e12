from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from leukoscope.bags.bags import Bags
from leukoscope.bags.model import BagModel, Judged
from leukoscope.bags.pooling import softmax_in_bags, weighted_sums
from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings
from leukoscope.encoders.smallmaps import speed_up_small_maps


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

    def __init__(self, features: Any, classes: int, settings: ClassAttentionSettings) -> None:
        super().__init__()
        self.reduce = self.reduction(features, settings)
        for layer in self.reduce:
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                # torch's own start shrinks what passes through four layers with ReLU until nothing is learned.
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        self.attend = nn.Sequential(
            nn.Linear(settings.reduced, settings.attention), nn.Tanh(), nn.Linear(settings.attention, classes)
        )
        self.classify = nn.ModuleList(
            nn.Sequential(nn.Linear(settings.reduced, settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, 1))
            for _ in range(classes)
        )

    @staticmethod
    def reduction(features: Any, settings: ClassAttentionSettings) -> nn.Sequential:
        """The network that reduces what is seen of each cell to k' numbers."""
        widths = (features, *settings.widths, settings.reduced)
        layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
        return nn.Sequential(*(part for layer in layers for part in layer))

    def forward(self, x: Tensor, bag: Tensor, n_bags: int) -> Judged:
        """See :meth:`BagModel.forward`; attention has a column for every class."""
        reduced = self.reduce(x)
        attention = softmax_in_bags(self.attend(reduced), bag, n_bags)
        bags = weighted_sums(attention, reduced, bag, n_bags)  # (B, K, k')
        logits = [own(bags[:, place]) for place, own in enumerate(self.classify)]
        return Judged(torch.cat(logits, dim=1), attention)


class MapAttention(ClassAttention):
    """The same over unpooled maps: convolutions reduce those of each cell ``(C, h, w)``, as Hehr et al. 2023 have it.

    As many layers as the reduction network has, each 2x2 without padding while the maps are larger than a pixel, then
    1x1; what is left of the maps is pooled to its greatest values. The predecessor's last layer is a linear one behind
    that pool, where aml-ssl-mil speaks of four convolutions.
    """

    @classmethod
    def input_of(cls, bags: Bags) -> Tensor:
        """See :meth:`BagModel.input_of`: the unpooled maps, float32 ``(N, C, h, w)``."""
        if bags.features.maps is None:
            raise InputError("head map-attention: the features came without maps; embed the cells with --maps")
        return torch.from_numpy(bags.features.maps.read()).float()

    @staticmethod
    def reduction(features: Sequence[int], settings: ClassAttentionSettings) -> nn.Sequential:
        """See :meth:`ClassAttention.reduction`."""
        channels, *sides = features
        parts: list[nn.Module] = []
        for before, after in pairwise((channels, *settings.widths, settings.reduced)):
            kernel = (min(2, sides[0]), min(2, sides[1]))
            parts += [nn.Conv2d(before, after, kernel), nn.ReLU()]
            sides = [side - each + 1 for side, each in zip(sides, kernel, strict=True)]
        network = nn.Sequential(*parts, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        speed_up_small_maps(network)
        return network
