from collections.abc import Iterator

import numpy as np
import pandas as pd

from leukoscope.bags.bags import Bags
from leukoscope.cells.folds import make_folds, split
from leukoscope.common.errors import InputError


def bag_folds(bags: Bags, *, n_folds: int, seed: int) -> pd.DataFrame:
    """Folds over bags, stratified by class, linked bags together: ``cell_id`` is a bag's name.

    Where bags are linked, ``group`` says which.

    Raises:
        InputError: when a class has too few bags for ``n_folds``.
    """
    for name in bags.classes:
        if (count := int((bags.labels == name).sum())) < n_folds:
            raise InputError(
                f"class {name!r}: {count} patients are too few for {n_folds} folds; give a smaller --n-folds"
            )
    table = table_of(bags)
    try:
        folds = make_folds(table, bags.labels, n_folds=n_folds, group="block", seed=seed)
    except InputError as error:
        raise InputError(f"patients that share images stay together, and so there are too few: {error}") from None
    names = dict(zip(table["cell_id"], bags.names, strict=True))
    folds["cell_id"] = folds["cell_id"].map(names)
    if len(np.unique(bags.linked)) == len(bags.linked):
        return folds
    groups = dict(zip(bags.names, bags.linked.astype(str), strict=True))
    return folds.assign(group=folds["cell_id"].map(groups))


def parted_patients(bags: Bags, folds: pd.DataFrame, bag: str) -> list[str]:
    """A warning where bags are samples, the column ``bag``, of patients that folds part; else none."""
    if bag == "patient" or "patient" not in bags.features.cells:
        return []
    patient = bags.features.cells["patient"].groupby(bags.names[bags.of]).first().to_dict()
    tested = folds[folds["role"] == "test"].set_index("cell_id")["fold"]
    parts = tested.groupby(tested.index.map(patient)).nunique()
    if not (parts > 1).any():
        return []
    return [
        f"of {int((parts > 1).sum())} of {len(parts)} patients some {bag}s were learned from and others tested: "
        "scores are too high; leave out --group none"
    ]


def outer_folds(bags: Bags, folds: pd.DataFrame) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Training and test bags of every fold."""
    place = {name: number for number, name in enumerate(bags.names)}
    for fold, rows in folds.groupby("fold"):
        number = rows["cell_id"].map(place).to_numpy()
        test = (rows["role"] == "test").to_numpy()
        yield int(str(fold)), number[~test], number[test]


def hold_back(bags: Bags, training: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bags to learn from and bags to stop by, stratified; bags that are linked stay together.

    Raises:
        InputError: when there are too few.
    """
    table, labels = table_of(bags).iloc[training], bags.labels[training]
    parts = split(table, labels, {"fit": 1 - share, "validation": share}, group="block", seed=seed).to_numpy()
    fit, validation = training[parts == "fit"], training[parts == "validation"]
    for name in bags.classes:
        if not (bags.labels[fit] == name).any():
            raise InputError(f"class {name!r}: too few patients to hold some back; give a smaller validation_share")
    if not len(validation):
        raise InputError(f"validation_share {share:g} of {len(training)} patients is none; give a larger one")
    return fit, validation


def table_of(bags: Bags) -> pd.DataFrame:
    """The bags as a table of cells, for folds; what stands before the colon of an id would be its image."""
    ids = [f"{number}:{name}" for number, name in enumerate(bags.names)]
    return pd.DataFrame({"cell_id": ids, "block": bags.linked})
