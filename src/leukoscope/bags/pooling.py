"""Sums, softmax and extremes over the cells of each bag, for bags of any sizes laid end to end: no padding, no mask."""

import torch
from torch import Tensor


def softmax_in_bags(scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """Softmax over the cells of each bag, in float32 where the scores have fewer bits.

    Args:
        scores: ``(n, H)``.
        bag: the bag of every cell, int64 ``(n,)``, each of 0 to ``n_bags`` - 1 at least once.
        n_bags: B.

    Returns:
        ``(n, H)``; the column sums within a bag are 1.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    top = max_in_bags(scores.detach(), bag, n_bags)
    weights = torch.exp(scores - top[bag])
    return weights / sum_in_bags(weights, bag, n_bags)[bag]


def sum_in_bags(x: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """The sum of the rows of each bag, ``(B, ...)`` of ``x`` ``(n, ...)``."""
    return x.new_zeros(n_bags, *x.shape[1:]).index_add(0, bag, x)


def mean_in_bags(x: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """The mean of the rows of each bag, ``(B, D)`` of ``x`` ``(n, D)``."""
    return sum_in_bags(x, bag, n_bags) / torch.bincount(bag, minlength=n_bags)[:, None]


def max_in_bags(x: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """The greatest of each column in each bag, ``(B, D)`` of ``x`` ``(n, D)``."""
    index = bag[:, None].expand_as(x)
    return x.new_full((n_bags, x.shape[1]), float("-inf")).scatter_reduce(0, index, x, "amax")


def weighted_sums(weights: Tensor, x: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """Sums of rows under several sets of weights, ``(B, H, D)`` of weights ``(n, H)`` and ``x`` ``(n, D)``."""
    return torch.stack([sum_in_bags(head[:, None] * x, bag, n_bags) for head in weights.unbind(dim=1)], dim=1)
