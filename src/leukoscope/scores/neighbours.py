from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Metric = Literal["cosine", "euclidean"]

# Similarities held at once: 16 million float32 are 64 MiB.
_BLOCK = 16_000_000


def knn(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    k: int,
    n_classes: int,
    *,
    temperature: float | None = None,
    metric: Metric = "cosine",
) -> Tensor:
    """Class probabilities ``(n, n_classes)`` float32 of test cells by a vote of their k nearest training cells.

    Each neighbour counts alike, or, with ``temperature``, as exp(similarity / temperature) (Wu et al. 2018,
    arXiv:1805.01978, section 3.4, who take the cosine, 0.07 and k = 200).

    Args:
        train_x: features ``(m, D)``.
        train_y: their classes ``(m,)`` int64.
        test_x: features ``(n, D)`` on the same device.
        k: how many neighbours vote; at most all m.
        n_classes: K.
        temperature: of the weighted vote; None for the plain one.
        metric: see :func:`nearest`.
    """
    similarities, index = nearest(train_x, test_x, k, metric)
    weights = torch.ones_like(similarities)
    if temperature is not None:
        # Relative to the nearest, so that a small temperature cannot overflow.
        weights = torch.exp((similarities - similarities[:, :1]) / temperature)
    votes = torch.zeros(len(test_x), n_classes, device=test_x.device)
    votes.scatter_add_(1, train_y[index], weights)
    return votes / votes.sum(dim=1, keepdim=True)


def nearest(train_x: Tensor, test_x: Tensor, k: int, metric: Metric = "cosine") -> tuple[Tensor, Tensor]:
    """Similarity ``(n, k)`` and row ``(n, k)`` of each test cell's k nearest training cells, nearest first.

    Similarity is the cosine, or minus the squared Euclidean distance but for a constant of each test cell. Among
    equals the training cell with the lower row comes first, on every device. Test cells go block by block, so
    memory does not grow with them.
    """
    k = min(k, len(train_x))
    step = max(1, _BLOCK // len(train_x))
    blocks = torch.split(test_x, step)
    if metric == "cosine":
        keys = F.normalize(train_x.float(), dim=1).T.contiguous()
        found = [_top(F.normalize(block.float(), dim=1) @ keys, k) for block in blocks]
    else:
        # Around their mean, so that little is lost where products and squares cancel.
        mean = train_x.float().mean(dim=0)
        keys = (train_x.float() - mean).T.contiguous()
        squares = keys.square().sum(dim=0)
        found = [_top(2 * (block.float() - mean) @ keys - squares, k) for block in blocks]
    return torch.cat([values for values, _ in found]), torch.cat([index for _, index in found])


def _top(similarities: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, index = similarities.topk(k, dim=1)
    # topk leaves open which of several equals it takes: rows with equals are sorted stably instead.
    tied = ((similarities >= values[:, -1:]).sum(dim=1) > k) | (values[:, 1:] == values[:, :-1]).any(dim=1)
    if tied.any():
        ordered, rows = similarities[tied].sort(dim=1, descending=True, stable=True)
        values[tied], index[tied] = ordered[:, :k], rows[:, :k]
    return values, index
