from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from leukoscope.common.errors import CheckFailed
from leukoscope.scores.alignment import alignment, uniformity
from leukoscope.scores.neighbours import knn
from leukoscope.scores.spectrum import feature_spread, rankme
from leukoscope.training.method import Method
from leukoscope.training.source import Batch, Batches

Views = Callable[[Tensor, Tensor, int], list[Tensor]]
"""``(pixels (B, C, H, W), cells (B,), epoch)`` to normalised float32 views ``(B, C, S, S)``."""

COLUMNS = ("spread", "rankme", "knn")
_BATCH = 256
_NEIGHBOURS = 20


class Monitor:
    """Watches the features of a fixed sample of the training cells: spread, RankMe, and k-NN where labels exist.

    Labels are looked at for the k-NN alone, never trained on.

    Args:
        source: the training cells.
        prepare: pixels ``(B, C, H, W)`` to normalised float32 ``(B, C, S, S)``.
        cells: size of the sample.
        seed: seed of the sample.
        labels: a label or None for every cell of the source ``(N,)``; None where there are none.
    """

    def __init__(
        self,
        source: Batches,
        prepare: Callable[[Tensor], Tensor],
        cells: int,
        seed: int,
        labels: np.ndarray | None = None,
    ) -> None:
        rng = np.random.default_rng([seed, 2])
        self.sample = np.sort(rng.permutation(source.cells)[:cells])
        self.source, self.prepare = source, prepare
        self.labels = None if labels is None else labels[self.sample]

    @torch.no_grad()
    def measure(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """The numbers of ``network`` now; it is left in the mode it was in."""
        if len(self.sample) < 2:
            return {}
        with _evaluating(network):
            parts = [network(self.prepare(batch.pixels.to(device))) for batch in self._batches()]
        features = torch.cat(parts).float().cpu()
        numbers = {"spread": feature_spread(features), "rankme": rankme(features)}
        if (accuracy := self._knn(features)) is not None:
            numbers["knn"] = accuracy
        return numbers

    @torch.no_grad()
    def contrast(self, network: nn.Module, device: torch.device, views: Views, epoch: int) -> dict[str, float]:
        """Alignment of two views of each cell, and uniformity: with RankMe, what a sweep may choose by.

        Nothing where a method makes one view of a cell, as supervised pre-training does.
        """
        if len(self.sample) < 2:
            return {}
        firsts, seconds = [], []
        with _evaluating(network):
            for batch in self._batches():
                shown = views(batch.pixels.to(device), batch.cells, epoch)
                if len(shown) < 2:
                    return {}
                firsts.append(network(shown[0]))
                seconds.append(network(shown[1]))
        a, b = torch.cat(firsts).cpu(), torch.cat(seconds).cpu()
        return {"alignment": alignment(a, b), "uniformity": uniformity(a)}

    def _batches(self) -> Iterator[Batch]:
        for part in np.array_split(self.sample, -(-len(self.sample) // _BATCH)):
            yield self.source.read(part)

    def _knn(self, features: Tensor) -> float | None:
        """Accuracy of k-NN from each half of the labelled sample to the other; None where there is too little of it."""
        if self.labels is None:
            return None
        known = np.array([label is not None for label in self.labels])
        classes, y = np.unique(self.labels[known].astype(str), return_inverse=True)
        if len(classes) < 2 or known.sum() <= len(classes):
            return None
        x, target = features[torch.from_numpy(known)], torch.from_numpy(y)
        # By chance, not in turn: kinds may stand in a set in turn.
        half = torch.from_numpy(np.random.default_rng(len(x)).permutation(len(x)) % 2 == 0)
        hits = 0
        for train in (half, ~half):
            votes = knn(x[train], target[train], x[~train], min(_NEIGHBOURS, int(train.sum())), len(classes))
            hits += int((votes.argmax(dim=1) == target[~train]).sum())
        return hits / len(x)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def refuse_divergence(loss: float, epoch: int) -> None:
    """Stop a run whose mean loss is no number: its weights are lost.

    Raises:
        CheckFailed: one line with what usually helps.
    """
    if not np.isfinite(loss):
        raise CheckFailed(f"diverged in epoch {epoch}: the loss is {loss}; lower the learning rate, or check the views")


def refuse_collapse(numbers: Mapping[str, float], method: Method, epoch: int) -> None:
    """Stop a run whose features have become one point or one line, or whose loss never left chance.

    Raises:
        CheckFailed: one line with the number that tells, and what usually helps.
    """
    advice = "lower the learning rate, check the views, or give --set train.collapse_steps=0 to go on regardless"
    if numbers.get("spread", 1.0) < 0.01:
        raise CheckFailed(f"collapsed in epoch {epoch}: feature spread {numbers['spread']:.4f} of 1; {advice}")
    if numbers.get("rankme", np.inf) < 1.2:
        raise CheckFailed(f"collapsed in epoch {epoch}: effective rank {numbers['rankme']:.2f}; {advice}")
    if numbers.get("projection_spread", 1.0) < 0.01:
        spread = f"{numbers['projection_spread']:.4f}"
        raise CheckFailed(f"collapsed in epoch {epoch}: projections are one point (spread {spread} of 1); {advice}")
    chance = method.chance_loss()
    if chance is not None and numbers["loss"] >= 0.995 * chance and numbers.get("top1", 0.0) < 0.05:
        raise CheckFailed(
            f"nothing learned by epoch {epoch}: loss {numbers['loss']:.3f} is that of chance, {chance:.3f}; {advice}"
        )
