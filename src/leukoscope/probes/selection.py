from collections.abc import Sequence

import torch
from torch import Tensor

# A head may be sure and wrong; one such cell must not decide.
_LEAST = 1e-6


def validation_scores(probabilities: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean log loss and accuracy of ``probabilities`` ``(n, K)`` for classes ``y`` ``(n,)``."""
    p = probabilities.gather(1, y[:, None]).clamp_min(_LEAST)
    accuracy = (probabilities.argmax(dim=1) == y).double().mean()
    return float(-p.log().double().mean()), float(accuracy)


def mean_scores(scores: Sequence[Sequence[tuple[float, float]]], weights: Sequence[int]) -> Tensor:
    """Average ``scores[split][candidate]`` over splits, by their numbers of cells: ``(candidates, 2)`` float64."""
    values = torch.tensor(scores, dtype=torch.float64)
    share = torch.tensor(weights, dtype=torch.float64)
    return (values * (share / share.sum())[:, None, None]).sum(dim=0)
