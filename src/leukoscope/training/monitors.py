from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from leukoscope.common.errors import CheckFailed
from leukoscope.scores.neighbours import knn
from leukoscope.scores.spectrum import feature_spread, rankme
from leukoscope.training.method import Method
from leukoscope.training.source import Batches

COLUMNS = ("spread", "rankme", "knn")
_BATCH = 256
_NEIGHBOURS = 20


class Monitor:
    """Watches the features of a fixed sample of the training cells: spread, RankMe, and k-NN where labels exist.

    The k-NN leaves each cell out of its own vote. Labels are looked at for this number alone, never trained on.

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

    def measure(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """The numbers of ``network`` now; it is left in the mode it was in."""
        if len(self.sample) < 2:
            return {}
        features = self._features(network, device)
        numbers = {"spread": feature_spread(features), "rankme": rankme(features)}
        if (accuracy := self._knn(features)) is not None:
            numbers["knn"] = accuracy
        return numbers

    @torch.no_grad()
    def _features(self, network: nn.Module, device: torch.device) -> Tensor:
        was_training = network.training
        network.eval()
        parts = [
            network(self.prepare(self.source.read(part).pixels.to(device))).float()
            for part in np.array_split(self.sample, -(-len(self.sample) // _BATCH))
        ]
        network.train(was_training)
        return torch.cat(parts).cpu()

    def _knn(self, features: Tensor) -> float | None:
        if self.labels is None:
            return None
        known = np.array([label is not None for label in self.labels])
        classes, y = np.unique(self.labels[known].astype(str), return_inverse=True)
        if len(classes) < 2 or known.sum() <= len(classes):
            return None
        x, target = features[torch.from_numpy(known)], torch.from_numpy(y)
        # Every cell is its own nearest neighbour: halves that vote for each other leave it out.
        even = torch.arange(len(x)) % 2 == 0
        hits = 0
        for train in (even, ~even):
            votes = knn(x[train], target[train], x[~train], min(_NEIGHBOURS, int(train.sum())), len(classes))
            hits += int((votes.argmax(dim=1) == target[~train]).sum())
        return hits / len(x)


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
    chance = method.chance_loss()
    if not np.isfinite(numbers["loss"]):
        raise CheckFailed(f"diverged in epoch {epoch}: the loss is {numbers['loss']}; {advice}")
    if chance is not None and numbers["loss"] >= 0.995 * chance:
        raise CheckFailed(
            f"nothing learned by epoch {epoch}: loss {numbers['loss']:.3f} is that of chance, {chance:.3f}; {advice}"
        )
