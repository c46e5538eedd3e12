import torch
from torch import Tensor
from torch.nn import functional as F


def rankme(features: Tensor, *, eps: float = 1e-7) -> float:
    """Effective rank of features ``(N, D)``: between 1 (collapsed to a line) and min(N, D).

    The exponential of the entropy of the normalised singular values, not centred (Garrido et al. 2023, "RankMe",
    arXiv:2210.02885). It needs no labels, so it may choose between pre-training runs; it compares runs
    only on the same cells, and N should exceed D.
    """
    values = torch.linalg.svdvals(features.detach().float())
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny) + eps
    return float(torch.exp(-(shares * shares.log()).sum()))


def feature_spread(features: Tensor) -> float:
    """:func:`spread` as a number; asking for it waits for the device."""
    return float(spread(features))


def spread(features: Tensor) -> Tensor:
    """How far features ``(N, D)`` are spread over the unit sphere: 0 when collapsed, about 1 when isotropic.

    The standard deviation over cells of each dimension of the L2-normalised features, averaged over dimensions and
    relative to 1/sqrt(D), its value for an isotropic Gaussian (Chen & He 2021, "SimSiam",
    arXiv:2011.10566, section 4.1). A scalar without gradient.
    """
    unit = F.normalize(features.detach().float(), dim=1)
    relative: Tensor = unit.std(dim=0, correction=0).mean() * float(unit.shape[1]) ** 0.5
    return relative
