"""Attention-based multiple-instance learning: the whole protocol, and an epoch against torchmil's.

    python benchmarks/bags.py [--patients 200] [--cells 500] [--dimensions 512] [--folds 5] [--seeds 3] [--turns 5]

Features are drawn: two classes of patients, of which the one holds 5 % of a kind that lies apart. Bags differ in size
by a half either way. The first part times every fold and seed of our models as `leukoscope mil` runs them, early
stopping included. The second trains the same gated ABMIL (two layers of 128, as torchmil has it) for one epoch of ten
bags a step by our trainer's steps and by torchmil's collation, padding and loss, both in float32, in turns; the ratio
is of the medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torchmil.data import collate_fn
from torchmil.models import ABMIL

from leukoscope.bags import abmil
from leukoscope.bags.bags import Bags, bags_of
from leukoscope.bags.crossval import BagSettings, cross_validate_bags
from leukoscope.bags.folds import bag_folds
from leukoscope.bags.train import TrainBagsSettings, fit_bags
from leukoscope.encoders.features import Features

RARE = 0.05


def cohort(patients: int, cells: int, dimensions: int, seed: int = 0) -> Bags:
    """Patients of two classes with the features of their cells."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(cells // 2, cells + cells // 2 + 1, patients)
    patient = np.repeat(np.arange(patients), sizes)
    ill = patient % 2 == 1
    x = rng.normal(size=(len(patient), dimensions)).astype(np.float32)
    x[:, :4] += 2.0 * (ill & (rng.random(len(patient)) < RARE))[:, None]
    table = pd.DataFrame(
        {
            "cell_id": [f"{number}:cell" for number in range(len(patient))],
            "patient": [f"P{number:03d}" for number in patient],
            "label": np.where(ill, "ill", "healthy"),
        }
    )
    return bags_of(Features(x, table))


def whole_protocol(bags: Bags, folds: int, seeds: int) -> None:
    """Time all folds and seeds of our two models of attention."""
    dealt = bag_folds(bags, n_folds=folds, seed=0)
    for head in ("class-attention", "abmil"):
        start = time.perf_counter()
        found = cross_validate_bags(bags, dealt, heads=(head,), seeds=tuple(range(seeds)), settings=BagSettings())
        took = time.perf_counter() - start
        table = found.predictions
        right = (table[["p_healthy", "p_ill"]].to_numpy().argmax(1) == (table["label"] == "ill")).mean()
        print(f"{head:<16} {folds} folds, {seeds} seeds: {took:7.1f} s, accuracy {right:.3f}", flush=True)


def an_epoch(bags: Bags, turns: int) -> None:
    """Time an epoch of gated ABMIL by our steps and by torchmil's."""
    x, y = torch.from_numpy(bags.features.x), torch.from_numpy((bags.labels == "ill").astype(np.int64))
    everyone = np.arange(len(bags.names))
    whole = int(bags.sizes.max())
    settings = TrainBagsSettings(epochs=1, balance=False, cells=whole, standardise=False, precision="fp32")

    def ours() -> None:
        model = abmil.ABMIL(x.shape[1], 2, abmil.ABMILSettings(attention=128, gated=True))
        fit_bags(model, bags, x, y, everyone, everyone[:1], settings, 0)

    own = [
        {"X": x[torch.from_numpy(rows)], "Y": y[number : number + 1].float()}
        for number, rows in enumerate(bags.rows(everyone))
    ]

    def theirs() -> None:
        model = ABMIL(in_shape=(x.shape[1],), att_dim=128, gated=True)
        optimiser = torch.optim.SGD(model.parameters(), settings.lr, settings.momentum, nesterov=True)
        for step in np.array_split(np.random.default_rng(0).permutation(everyone), -(-len(everyone) // settings.bags)):
            batch = collate_fn([own[number] for number in step])
            _, losses = model.compute_loss(batch["Y"].squeeze(-1), batch["X"], batch["mask"])
            optimiser.zero_grad()
            sum(losses.values()).backward()
            optimiser.step()

    taken = [(_timed(ours), _timed(theirs)) for _ in range(turns + 1)][1:]
    medians = dict(zip(("ours", "torchmil"), map(statistics.median, zip(*taken, strict=True)), strict=True))
    print(f"an epoch of gated ABMIL: ours {medians['ours']:.2f} s, torchmil {medians['torchmil']:.2f} s, "
          f"ratio {medians['torchmil'] / medians['ours']:.2f}")  # fmt: skip


def _timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("patients", 200),
        ("cells", 500),
        ("dimensions", 512),
        ("folds", 5),
        ("seeds", 3),
        ("turns", 5),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    drawn = cohort(given.patients, given.cells, given.dimensions)
    print(
        f"{len(drawn.names)} patients, {len(drawn.of):,} cells of {given.dimensions} features, "
        f"{torch.get_num_threads()} threads"
    )
    an_epoch(drawn, given.turns)
    whole_protocol(drawn, given.folds, given.seeds)
