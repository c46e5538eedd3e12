"""What it costs an audit to be stopped as soon as its intervals are narrow enough.

    python benchmarks/stopping.py [--samples 400] [--points 3]

Intervals are for an audit of a length fixed before. Here a review looks after every tenth cell and stops when every
class is known to within the points asked for. Samples of five kinds at clinical shares are called by a good and by a
badly wrong classifier; printed is how often the intervals for the composition cover it, by class.
"""

import argparse

import numpy as np

from leukoscope.differential.audited import FEWEST, AuditedCount, audited_count

SHARE = np.array([0.60, 0.28, 0.07, 0.03, 0.02])
RIGHT = {"good": 0.93, "badly wrong": 0.5}


def reviewed(n: int, right: float, to: float, rng: np.random.Generator) -> tuple[np.ndarray, AuditedCount]:
    """The true composition of a drawn sample, and its audited count when the review stops."""
    kinds = len(SHARE)
    rates = np.full((kinds, kinds), (1 - right) / (kinds - 1))
    np.fill_diagonal(rates, right)
    truth = rng.choice(kinds, n, p=SHARE)
    predicted = (rng.random(n)[:, None] > rates[truth].cumsum(axis=1)).sum(axis=1).clip(max=kinds - 1)
    order = rng.permutation(n)
    for seen in (*range(FEWEST, n, 10), n):
        audit = np.zeros(n, dtype=bool)
        audit[order[:seen]] = True
        count = audited_count(np.eye(kinds)[predicted], np.where(audit, truth, -1), audit)
        if count.half_width <= to:
            break
    return np.bincount(truth, minlength=kinds) / n, count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--points", type=float, default=3.0)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    for name, right in RIGHT.items():
        for n in (500, 2000):
            found = [reviewed(n, right, given.points / 100, rng) for _ in range(given.samples)]
            covered = [
                [each.composition.low - 1e-9 <= true <= each.composition.high + 1e-9
                 for true, each in zip(imaged, count.classes, strict=True) if each.composition]
                for imaged, count in found
            ]  # fmt: skip
            cells = np.median([count.audited for _, count in found])
            print(f"{name}, {n} cells: seen {cells:.0f}, coverage {np.mean(covered, axis=0).round(3)}", flush=True)
