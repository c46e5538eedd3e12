"""What the limits of quality catch: real or simulated cells, spoiled by kind and grade.

    python benchmarks/quality.py SET [--cells 1500] [--spoiled 150] [--false-alarm 0.01] [--half report] [--one-class]

The measures were chosen on one fixed half of each set's cells (--half tune shows it); the other is reported on, of
which --cells teach the limits, and the rest is held out: it tells false alarms, and is spoiled anew for
each kind and band of grades (a doublet takes up a second cell). A row says which share was set aside, and for which
reason; the lower table, the false alarms by class. About three minutes on one idle core.

--splits 30 tells the false alarms alone, of as many random choices of the cells that teach, among 5,000 of the half.
--one-class keeps the rate over all cells alone, not within each class: what that costs is the difference.
"""

import argparse
from collections import Counter

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.measures import MEASURES, measure, measures_of
from leukoscope.cells.spoiling.camera import Camera
from leukoscope.cells.spoiling.kinds import KINDS, UNGRADED, spoil_cell
from leukoscope.differential.quality import QualityLimits, reasons
from leukoscope.differential.quality_limits import learn_quality

BANDS = ((0.1, 0.4), (0.4, 0.7), (0.7, 1.0))
_CHUNK = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set")
    parser.add_argument("--cells", type=int, default=1500, help="that the limits are learned from, at most")
    parser.add_argument("--spoiled", type=int, default=150, help="of each kind and band of grades")
    parser.add_argument("--false-alarm", type=float, default=0.01)
    parser.add_argument("--half", choices=("report", "tune"), default="report")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--splits", type=int, default=0)
    parser.add_argument("--one-class", action="store_true")
    given = parser.parse_args()
    cells = CellSet.open(given.set)
    # The halves are fixed, whatever the seed: a cell that the measures were tuned on is never reported on.
    order = np.random.default_rng(0).permutation(len(cells))
    half = np.array_split(order, 2)[given.half == "report"]
    half = np.random.default_rng(given.seed).permutation(half)
    if given.splits:
        chosen = cells.select(half[:5000])
        _rates(measure(chosen, jobs=1), _classes(chosen), given)
        return
    taught, held = np.split(half, [min(given.cells, 2 * len(half) // 3)])
    teaching = cells.select(taught)
    classes = None if given.one_class else _classes(teaching)
    limits = learn_quality(measure(teaching, jobs=1), classes, false_alarm=given.false_alarm)
    print(f"{given.set}, {given.half} half: limits of {len(taught)} cells, {100 * limits.alarms:.2f} % of them beyond")
    _faults(cells, held, limits, given.spoiled)
    _false_alarms(cells.select(held), limits)


def _classes(cells: CellSet) -> np.ndarray | None:
    return cells.cells["label"].to_numpy(dtype=object) if "label" in cells.cells.columns else None


def _faults(cells: CellSet, held: np.ndarray, limits: QualityLimits, count: int) -> None:
    print(f"{'kind':14} {'grade':9} {'set aside':>9}  reasons")
    camera = Camera.of(cells.info)
    for kind in KINDS:
        for low, high in ((1.0, 1.0),) if kind in UNGRADED else BANDS:
            rng = np.random.default_rng((KINDS.index(kind), int(10 * low)))
            first, second = (cells.read(rng.choice(held, count, replace=len(held) < count)) for _ in range(2))
            spoiled = np.stack(
                [
                    spoil_cell(cell, kind, rng.uniform(low, high), camera, rng, second=other)
                    for cell, other in zip(first, second, strict=True)
                ]
            )
            found = reasons(_table(spoiled, camera.white), limits)
            told = Counter(found[found != ""]).most_common(3)
            print(
                f"{kind:14} {f'{low:.1f}-{high:.1f}' if high > low else '':9} {100 * (found != '').mean():7.0f} %  "
                + ", ".join(f"{reason} {100 * number / count:.0f}" for reason, number in told),
                flush=True,
            )


def _false_alarms(held: CellSet, limits: QualityLimits) -> None:
    found = reasons(measure(held, jobs=1), limits)
    hit = found != ""
    error = 196 * np.sqrt(max(hit.mean() * (1 - hit.mean()), 1e-9) / len(hit))
    told = ", ".join(f"{reason} {number}" for reason, number in Counter(found[hit]).most_common())
    print(f"false alarms: {100 * hit.mean():.2f} +- {error:.2f} % of {len(hit)} cells held out ({told})")
    if "label" in held.cells.columns:
        for label, part in pd.Series(hit).groupby(held.cells["label"].to_numpy()):
            print(f"  {label:14} {100 * part.mean():5.1f} % of {len(part)}")


def _rates(table: pd.DataFrame, classes: np.ndarray | None, given: argparse.Namespace) -> None:
    rates, of_each = [], []
    for seed in range(given.splits):
        taught, held = np.split(np.random.default_rng(seed).permutation(len(table)), [given.cells])
        own = None if classes is None or given.one_class else classes[taught]
        limits = learn_quality(table.iloc[taught], own, false_alarm=given.false_alarm)
        lost = pd.Series(100.0 * (reasons(table.iloc[held], limits) != ""))
        rates.append(lost.mean())
        of_each.append(lost.groupby(np.full(len(held), "all") if classes is None else classes[held]).mean())
    print(f"false alarms of {len(rates)} splits: {np.mean(rates):.2f} %, from {min(rates):.2f} to {max(rates):.2f}")
    for name, mean in pd.concat(of_each, axis=1).mean(axis=1).items():
        print(f"  {name:14} {mean:5.1f} %")


def _table(pixels: np.ndarray, white: float) -> pd.DataFrame:
    chunks = [measures_of(pixels[at : at + _CHUNK], white) for at in range(0, len(pixels), _CHUNK)]
    return pd.DataFrame(np.concatenate(chunks), columns=list(MEASURES))


if __name__ == "__main__":
    main()
