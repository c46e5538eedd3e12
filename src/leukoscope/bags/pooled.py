from typing import Literal

from pydantic import Field
from torch import Tensor

from leukoscope.bags.abmil import classifier
from leukoscope.bags.model import BagModel, Judged
from leukoscope.bags.pooling import max_in_bags, mean_in_bags
from leukoscope.common.settings import Settings


class PooledSettings(Settings):
    """A classifier on pooled features."""

    pool: Literal["mean", "max"] = "mean"
    hidden: int | None = Field(default=None, ge=1)
    """Width of a layer with ReLU before the logits; None: one linear layer."""


class Pooled(BagModel):
    """The mean, or the greatest, of every feature over a bag, and a classifier: what attention has to beat.

    Args:
        features: k.
        classes: K.
        settings: see :class:`PooledSettings`.
    """

    def __init__(self, features: int, classes: int, settings: PooledSettings) -> None:
        super().__init__()
        self.pool = mean_in_bags if settings.pool == "mean" else max_in_bags
        self.classify = classifier(features, classes, settings.hidden)

    def forward(self, x: Tensor, bag: Tensor, n_bags: int) -> Judged:
        """See :meth:`BagModel.forward`; there is no attention."""
        return Judged(self.classify(self.pool(x, bag, n_bags)), None)
