from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import content_hash
from leukoscope.cells.spoiling.kinds import DOUBLET, KINDS, UNGRADED

NORMAL = "normal"
_TOGETHER = ("patient", "slide", "batch", "split")


@dataclass(frozen=True)
class Step:
    """One cell of the new set: its row in the source, its kind or ``normal``, the grade, the row of a second cell."""

    row: int
    quality: str = NORMAL
    grade: float = 0.0
    second: int | None = None


def plan(
    cells: pd.DataFrame, *, kinds: Sequence[str], grade: tuple[float, float], share: float, seed: int
) -> list[Step]:
    """How each cell is spoiled: by ``(seed, content)`` alone, so that exact duplicates are spoiled alike.

    Only doublets look at other cells. Such a cell takes up another one of the same patient, slide, batch and split
    (where these are known), which then does not stand in the set by itself: no cell is shown twice, and none can be on
    both sides of a fold. Where none is left it stays normal; so do exact duplicates, which are not taken up either.

    Args:
        cells: the table of the source.
        kinds: of spoiling, equally likely; their order does not matter.
        grade: the lowest and the highest; all between them are equally likely.
        share: of the cells that are spoiled; each is drawn by itself, so it holds as nearly as chance has it.
        seed: of everything random.

    Returns:
        A step for each cell of the new set, in the order of the source.
    """
    chosen = [kind for kind in KINDS if kind in kinds]
    contents = pd.Series([content_hash(cell) for cell in cells["cell_id"]], dtype=object)
    draws = np.array([generator(seed, content, 0).random(4) for content in contents]).reshape(-1, 4)
    steps = []
    for row, (whether, which, how_much, _) in enumerate(draws):
        kind = chosen[int(which * len(chosen))]
        degree = 1.0 if kind in UNGRADED else grade[0] + (grade[1] - grade[0]) * how_much
        steps.append(Step(row, kind, float(degree)) if whether < share else Step(row))
    pairs = _doublets(steps, cells, single=~contents.duplicated(keep=False).to_numpy(), order=draws[:, 3])
    taken = set(pairs.values())
    return [_settled(step, pairs) for step in steps if step.row not in taken]


def generator(seed: int, content: str, stream: int) -> np.random.Generator:
    """The random numbers of one cell: of its seed and its content hash, whatever stands around it."""
    return np.random.default_rng((seed, int.from_bytes(content.encode()), stream))


def _settled(step: Step, pairs: dict[int, int]) -> Step:
    if step.quality != DOUBLET:
        return step
    return replace(step, second=pairs[step.row]) if step.row in pairs else Step(step.row)


def _doublets(steps: list[Step], cells: pd.DataFrame, *, single: np.ndarray, order: np.ndarray) -> dict[int, int]:
    """The second row of each doublet, by its first; only rows that are ``single`` are paired, in this random order."""
    known = [name for name in _TOGETHER if name in cells.columns]
    groups = cells[known].astype(str).agg("\n".join, axis=1).to_numpy() if known else np.full(len(cells), "")
    rows = np.argsort(order)
    rows = rows[single[rows]]
    pairs: dict[int, int] = {}
    for _, members in pd.Series(rows).groupby(groups[rows]):
        pairs |= _paired([row for row in members if steps[row].quality == DOUBLET], list(members))
    return pairs


def _paired(firsts: list[int], rows: list[int]) -> dict[int, int]:
    """Each of ``firsts`` with the next of ``rows`` that is in no pair yet; a first that was taken up makes none."""
    pairs: dict[int, int] = {}
    used: set[int] = set()
    left = iter(rows)
    for first in firsts:
        if first in used:
            continue
        used.add(first)
        second = next((row for row in left if row not in used), None)
        if second is None:
            break
        used.add(second)
        pairs[first] = second
    return pairs
