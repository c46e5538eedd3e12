import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F


def initial(sizes: Sequence[int], seed: int) -> list[Tensor]:
    """Parameters of one MLP with layers of ``sizes``: weight and bias of each, scale and shift of each norm between.

    Drawn as ``nn.Linear`` draws them (Kaiming-uniform with gain 1/sqrt(3)), from ``seed`` alone.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = []
    for n_in, n_out in pairwise(sizes):
        bound = 1 / math.sqrt(n_in)
        parameters.append((2 * torch.rand(n_out, n_in, generator=generator) - 1) * bound)
        parameters.append((2 * torch.rand(n_out, generator=generator) - 1) * bound)
        if len(parameters) < 4 * (len(sizes) - 2):
            parameters += [torch.ones(n_out), torch.zeros(n_out)]
    return parameters


def forward(parameters: Sequence[Tensor], x: Tensor) -> Tensor:
    """Logits ``(P, n, K)`` of P stacked MLPs for their own inputs ``(P, n, D)``.

    Each hidden layer is followed by ReLU and layer normalisation, as in the paper ("each transformation followed by
    non-linear activation and normalization operations").
    """
    hidden = list(zip(*[iter(parameters[:-2])] * 4, strict=True))
    for weight, bias, scale, shift in hidden:
        # (P, n, in) x (P, in, out) -> (P, n, out)
        x = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2)).relu()
        x = F.layer_norm(x, x.shape[-1:]) * scale[:, None] + shift[:, None]
    weight, bias = parameters[-2:]
    return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
