from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leukoscope.bags.bags import Bags


class Judged(NamedTuple):
    """What a model says of bags: ``logits`` ``(B, K)``, and the ``attention`` ``(n, H)`` that each cell was given.

    Attention sums to 1 over the cells of a bag in each of its H columns: one for each class, or one for all. A model
    that weighs no cells has none.
    """

    logits: Tensor
    attention: Tensor | None


class BagModel(nn.Module, ABC):
    """Judges bags of any number of cells, whose features lie end to end."""

    @classmethod
    def input_of(cls, bags: Bags) -> Tensor:
        """What models of this class see of each cell, float32 ``(N, ...)``: its features, unless they say otherwise.

        Raises:
            InputError: when the features lack it.
        """
        return torch.from_numpy(bags.features.x)

    @abstractmethod
    def forward(self, x: Tensor, bag: Tensor, n_bags: int) -> Judged:
        """Judge ``n_bags`` bags.

        Args:
            x: of their cells, what :meth:`input_of` gives, float32 ``(n, ...)``.
            bag: the bag of every cell, int64 ``(n,)``, each of 0 to ``n_bags`` - 1 at least once.
            n_bags: B.
        """

    def loss(self, x: Tensor, bag: Tensor, n_bags: int, y: Tensor) -> Tensor:
        """The loss, summed over bags of classes ``y`` int64 ``(B,)``: cross-entropy, unless a model has its own."""
        return F.cross_entropy(self(x, bag, n_bags).logits, y, reduction="sum")
