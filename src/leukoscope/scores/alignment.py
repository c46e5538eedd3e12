import torch
from torch import Tensor
from torch.nn import functional as F


def alignment(a: Tensor, b: Tensor) -> float:
    """Mean squared distance between unit features ``(N, D)`` of two views of the same cells: 0 is best, 4 the most.

    Equation 1 with alpha 2 of Wang & Isola 2020, arXiv:2005.10242. Read together with :func:`uniformity`: features that
    are all one point align perfectly.
    """
    return float((F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(dim=1).mean())


def uniformity(features: Tensor) -> float:
    """Log of the mean Gaussian kernel between unit features ``(N, D)``: 0 when all are one point, lower is better.

    Equation 2 with t 2 of Wang & Isola 2020, arXiv:2005.10242, over all pairs of distinct cells.
    """
    return float(torch.pdist(F.normalize(features.float(), dim=1)).square().mul(-2).exp().mean().log())
