from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

# A head may be sure and wrong; one such cell must not decide.
_LEAST = 1e-6


def validation_scores(probabilities: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean log loss and accuracy of ``probabilities`` ``(n, K)`` for classes ``y`` ``(n,)``."""
    p = probabilities.gather(1, y[:, None]).clamp_min(_LEAST)
    accuracy = (probabilities.argmax(dim=1) == y).double().mean()
    return float(-p.log().double().mean()), float(accuracy)


def candidates(
    values: Sequence[Mapping[str, float]], scores: Sequence[Sequence[tuple[float, float]]], sizes: Sequence[int]
) -> list[dict[str, float]]:
    """Mean log loss and accuracy beside each of the hyper-parameters' ``values``; nothing where there are no splits.

    ``scores[split][value]`` are those of :func:`validation_scores`, averaged by the ``sizes`` of the splits.
    """
    if not scores:
        return []
    share = torch.tensor(sizes, dtype=torch.float64)
    means = (torch.tensor(scores, dtype=torch.float64) * (share / share.sum())[:, None, None]).sum(dim=0)
    return [
        {**value, "log_loss": loss, "accuracy": accuracy}
        for value, (loss, accuracy) in zip(values, means.tolist(), strict=True)
    ]
