from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from leukoscope.cells.blocks import blocks_of
from leukoscope.cells.cellset import CellSet
from leukoscope.cells.folds import split
from leukoscope.cells.groups import NO_GROUP
from leukoscope.common.errors import InputError
from leukoscope.common.runs import log

PARTS = ("train", "validation", "test")
_SPELLED = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
_COLUMN = "split"


@dataclass(frozen=True)
class Parts:
    """Rows of a CellSet to train on, to choose by and to test on; ``origin`` says in words how they were told apart."""

    rows: Mapping[str, np.ndarray]
    origin: str

    @property
    def training(self) -> np.ndarray:
        """Train and validation together: what the last fit learns from."""
        return np.sort(np.concatenate([self.rows["train"], self.rows["validation"]]))


def parts_of(
    cellset: CellSet,
    labels: np.ndarray,
    *,
    column: str | None,
    group: str | None,
    test_share: float,
    inner_share: float,
    max_per_class: int | None,
    seed: int,
) -> Parts:
    """Tell the labelled cells apart: test cells first; of the others, at most ``max_per_class`` of each class.

    Exact duplicates stay together, and so do the cells of one ``group``.

    Args:
        cellset: the cells.
        labels: the class of each ``(N,)``, None where unknown.
        column: of the table, that says ``train``, ``val`` or ``test``; cells with another value take no part. None
            takes ``split`` where it says so, and else draws the test cells; ``"none"`` draws them in any case.
        group: a column that holds cells together, or None.
        test_share: of the cells, where test cells are drawn.
        inner_share: of the other cells, for validation, where the column names none.
        max_per_class: training and validation cells of a class; None takes all. Test cells are never left out.
        seed: of what is drawn.

    Raises:
        InputError: when the column does not serve, or a part or a class in it is empty.
    """
    known = np.array([label is not None for label in labels])
    column = _column(cellset, column)
    part = np.full(len(cellset), "", dtype=object)
    if column is None:
        shares = {"other": 1 - test_share, "test": test_share}
        part[known] = split(cellset.cells[known], labels[known], shares, group=group, seed=seed).to_numpy()
        origin = f"test cells drawn by {group or 'cell'}, a share of {test_share:g}"
    else:
        said = cellset.cells[column].astype("string").str.lower().map(_SPELLED).fillna("").to_numpy(dtype=object)
        part[known] = said[known]
        _refuse_shared_groups(cellset, part, column, group)
        _leave_out_duplicates(cellset, part)
        if not (part == "validation").any():
            part[part == "train"] = "other"
        origin = f"column {column}"
    _cap(part, labels, max_per_class, seed)
    other = part == "other"
    if other.any():
        shares = {"train": 1 - inner_share, "validation": inner_share}
        part[other] = split(cellset.cells[other], labels[other], shares, group=group, seed=seed).to_numpy()
        origin += f"; validation cells drawn by {group or 'cell'}, a share of {inner_share:g} of the rest"
    rows = {name: np.flatnonzero(part == name) for name in PARTS}
    _refuse_empty(cellset, labels, rows)
    log.info("%s; %s", ", ".join(f"{len(each)} {name}" for name, each in rows.items()), origin)
    return Parts(rows, origin)


def at_most(rows: np.ndarray, classes: np.ndarray, most: int | None, seed: int) -> np.ndarray:
    """Of ``rows`` ``(n,)`` at most so many of each of the ``classes`` ``(n,)``, drawn by ``seed``, in their order."""
    if most is None:
        return rows
    rng = np.random.default_rng([seed, 3])
    keep = [rng.permutation(np.flatnonzero(classes == one))[:most] for one in np.unique(classes)]
    kept: np.ndarray = rows[np.sort(np.concatenate(keep))]
    return kept


def _column(cellset: CellSet, column: str | None) -> str | None:
    """The column that tells parts, None where test cells are to be drawn."""
    if column == NO_GROUP:
        return None
    asked, name = column is not None, column or _COLUMN
    if name not in cellset.cells.columns and not asked:
        return None
    said = set(cellset.column(name).astype("string").str.lower().dropna().unique())
    if {"train", "test"} <= said:
        return name
    if asked:
        raise InputError(
            f"--split {name}: says {', '.join(sorted(said)[:4]) or 'nothing'}; it must say train and test (and may say "
            "val), or give --split none to draw the test cells"
        )
    return None


def _refuse_shared_groups(cellset: CellSet, part: np.ndarray, column: str, group: str | None) -> None:
    if group is None:
        return
    of_test = set(cellset.cells.loc[part == "test", group].dropna())
    shared = sorted(of_test & set(cellset.cells.loc[np.isin(part, ["train", "validation"]), group].dropna()))
    if shared:
        raise InputError(
            f"--split {column}: {group} {shared[0]} ({len(shared)} in all) has cells to test on and cells to train on; "
            f"give --split none to draw the test cells by {group}, or --group none where this is meant"
        )


def _leave_out_duplicates(cellset: CellSet, part: np.ndarray) -> None:
    """Take cells whose exact image is in a later part out of the earlier ones."""
    blocks = blocks_of(cellset.cells)
    for place, name in enumerate(PARTS[:-1]):
        later = np.isin(blocks, blocks[np.isin(part, PARTS[place + 1 :])])
        twice = later & (part == name)
        if twice.any():
            log.warning("%d %s cells are exact duplicates of later parts' cells, and left out", twice.sum(), name)
            part[twice] = ""


def _cap(part: np.ndarray, labels: np.ndarray, most: int | None, seed: int) -> None:
    """Leave out what is above ``most`` training and validation cells of a class."""
    rows = np.flatnonzero(np.isin(part, ["other", "train", "validation"]))
    left_out = np.setdiff1d(rows, at_most(rows, labels[rows].astype(str), most, seed)) if len(rows) else rows
    if len(left_out):
        log.info("%d cells above %d of their class are not trained on", len(left_out), most)
    part[left_out] = ""


def _refuse_empty(cellset: CellSet, labels: np.ndarray, rows: Mapping[str, np.ndarray]) -> None:
    for name, each in rows.items():
        if not len(each):
            raise InputError(
                f"{cellset.path}: no labelled {name} cells; change the shares, --split or --group, or label more cells"
            )
    trained = set(labels[rows["train"]])
    unseen = set(labels[np.concatenate([rows["validation"], rows["test"]])])
    if len(trained) < 2:
        raise InputError(f"{cellset.path}: training cells of {len(trained)} class; at least two are told apart")
    for name in sorted(unseen - trained):
        raise InputError(f"class {name!r}: has no training cells; leave it out, or change --split, --group or --seed")
    for name in sorted(trained - unseen):
        raise InputError(
            f"class {name!r}: all of its cells are trained on, so that nothing is known of its errors; leave it out, "
            "or change --split, --group or --seed"
        )
