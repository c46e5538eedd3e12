"""What it costs an audit to be stopped as soon as its intervals are narrow enough, and how soon they are.

    python benchmarks/stopping.py [RUN] [--samples 400] [--points 3]

Intervals are for an audit of a length fixed before. Here a review looks after every few cells and stops when every
class is known to within the points asked for; printed is how many cells it has seen then, and how often the intervals
for the composition cover it, by class. Samples of five kinds at clinical shares are called by a good and by a badly
wrong classifier; or RUN, a classified sample whose cells are labelled, is audited in so many random orders, by its
probabilities and by its classes alone.
"""

import argparse
from pathlib import Path

import numpy as np

from leukoscope.differential.audited import FEWEST, AuditedCount, audited_count
from leukoscope.differential.sample import Sample

SHARE = np.array([0.60, 0.28, 0.07, 0.03, 0.02])
RIGHT = {"good": 0.93, "badly wrong": 0.5}


def reviewed(said: np.ndarray, truth: np.ndarray, to: float, rng: np.random.Generator, every: int = 10) -> AuditedCount:
    """The audited count when the review of cells ``truth`` ``(n,)`` stops, of which ``said`` ``(n, K)`` is known."""
    n, order = len(truth), rng.permutation(len(truth))
    for seen in (*range(FEWEST, n, every), n):
        audit = np.zeros(n, dtype=bool)
        audit[order[:seen]] = True
        count = audited_count(said, np.where(audit, truth, -1), audit)
        if count.half_width <= to:
            break
    return count


def drawn(n: int, right: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What a classifier calls the cells of a sample ``(n, K)``, 1 and else 0, and what they are ``(n,)``."""
    kinds = len(SHARE)
    rates = np.full((kinds, kinds), (1 - right) / (kinds - 1))
    np.fill_diagonal(rates, right)
    truth = rng.choice(kinds, n, p=SHARE)
    predicted = (rng.random(n)[:, None] > rates[truth].cumsum(axis=1)).sum(axis=1).clip(max=kinds - 1)
    return np.eye(kinds)[predicted], truth


def tell(name: str, found: list[tuple[np.ndarray, AuditedCount]]) -> None:
    """A line: how many cells were seen, and how often intervals cover the true compositions ``(K,)``."""
    covered = [
        [each.composition.low - 1e-9 <= true <= each.composition.high + 1e-9
         for true, each in zip(imaged, count.classes, strict=True) if each.composition]
        for imaged, count in found
    ]  # fmt: skip
    seen = [count.audited for _, count in found]
    told = f"seen {np.median(seen):.0f} ({min(seen)} to {max(seen)}), coverage {np.mean(covered, axis=0).round(3)}"
    print(f"{name}: {told}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--points", type=float, default=3.0)
    given = parser.parse_args()
    to, rng = given.points / 100, np.random.default_rng(0)
    if given.run:
        sample = Sample.open(given.run)
        place = {name: k for k, name in enumerate(sample.classes)}
        truth = np.array([place[name] for name in sample.cellset.cells["label"]])[sample.counted]
        imaged = np.bincount(truth, minlength=len(place)) / len(truth)
        p = sample.probabilities[sample.counted]
        for name, said in (("probabilities", p), ("classes", np.eye(len(place))[p.argmax(axis=1)])):
            tell(name, [(imaged, reviewed(said, truth, to, rng, every=4)) for _ in range(given.samples)])
    else:
        for name, right in RIGHT.items():
            for n in (500, 2000):
                samples = [drawn(n, right, rng) for _ in range(given.samples)]
                shares = [np.bincount(truth, minlength=len(SHARE)) / n for _, truth in samples]
                counts = [reviewed(*sample, to, rng) for sample in samples]
                tell(f"{name}, {n} cells", list(zip(shares, counts, strict=True)))
