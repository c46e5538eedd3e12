from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.cells.blocks import blocks_of
from leukoscope.cells.groups import NO_GROUP
from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features


@dataclass(frozen=True)
class Bags:
    """Patients as bags of cells.

    Attributes:
        features: of the cells that belong to a bag, bag by bag.
        names: of the bags ``(P,)``, sorted.
        labels: one class a bag ``(P,)``, as objects.
        of: the bag of every cell, int64 ``(N,)``, rising.
        linked: a number for each bag ``(P,)``; bags that share it hold the same image or belong to one group, and may
            not be parted.
        kinds: the kind of every cell ``(N,)`` as objects, None where unknown; None where no column names them.
    """

    features: Features
    names: np.ndarray
    labels: np.ndarray
    of: np.ndarray
    linked: np.ndarray
    kinds: np.ndarray | None = None

    @property
    def classes(self) -> list[str]:
        """The classes, sorted."""
        return sorted(set(self.labels))

    @property
    def sizes(self) -> np.ndarray:
        """Cells in each bag ``(P,)``."""
        return np.bincount(self.of, minlength=len(self.names))

    def rows(self, bags: np.ndarray) -> list[np.ndarray]:
        """The cells of each of ``bags``, as rows of the features."""
        ends = np.cumsum(self.sizes)
        return [np.arange(ends[bag] - self.sizes[bag], ends[bag]) for bag in bags]


def bags_of(
    features: Features,
    *,
    bag: str = "patient",
    label: str = "label",
    group: str | None = None,
    kind: str | None = None,
) -> Bags:
    """Group cells into bags by the column ``bag``; each bag has the one class that its cells carry in ``label``.

    Cells without a bag take no part, nor do bags none of whose cells has a class.

    Args:
        features: of cells in any order.
        bag: the column that names a cell's bag.
        label: the column of the bag's class.
        group: a column whose bags may not be parted, such as the patient whose samples they are. None takes
            ``patient`` where the bag is another column, ``none`` leaves bags to themselves.
        kind: a column that names the kind of a cell.

    Raises:
        InputError: when a column is missing, a bag has two classes, or fewer than two classes are left.
    """
    cells = features.cells
    if group is None and bag != "patient" and "patient" in cells:
        group = "patient"
    group = None if group in (bag, NO_GROUP) else group
    for name, flag in ((bag, "--bag"), (label, "--label"), (group, "--group"), (kind, "--kind")):
        if name is not None and name not in cells:
            raise InputError(f"{flag} {name}: no such column; the cells have {', '.join(map(str, cells.columns))}")
    named = pd.Series([_name(value) for value in cells[bag]], dtype=object)
    table = pd.DataFrame({"bag": named, "label": cells[label].to_numpy()})
    kinds = table.dropna().groupby("bag")["label"].agg(["nunique", "first"])
    if (two := kinds.index[kinds["nunique"] > 1]).size:
        found = sorted(set(table.loc[table["bag"] == two[0], "label"].dropna()))
        raise InputError(f"{bag} {two[0]}: has cells of several classes in {label} ({', '.join(map(str, found))})")
    if kinds["first"].nunique() < 2:
        raise InputError(f"--label {label}: bags of at least two classes are needed, found {kinds['first'].nunique()}")
    number = table["bag"].map({name: place for place, name in enumerate(sorted(kinds.index))})
    rows = np.flatnonzero(number.notna().to_numpy())
    rows = rows[np.argsort(number.to_numpy()[rows], kind="stable")]
    kept = features.select(rows)
    of = number.to_numpy()[rows].astype(np.int64)
    blocks = blocks_of(kept.cells, bag)
    if group is not None:
        # Blocks take the place of images: what shares a block or a group stays together, transitively.
        blocks = blocks_of(
            pd.DataFrame({"cell_id": [f"{block}:" for block in blocks], group: kept.cells[group]}), group
        )
    names = np.array(sorted(kinds.index), dtype=object)
    return Bags(
        kept,
        names,
        kinds["first"].loc[names].astype(str).to_numpy(dtype=object),
        of,
        pd.Series(blocks).groupby(of).first().to_numpy(),
        None
        if kind is None
        else np.array([None if pd.isna(value) else str(value) for value in kept.cells[kind]], dtype=object),
    )


def _name(value: Any) -> str | None:
    """A bag's name as text; a number that was read as 7.0 because others are missing is 7."""
    if pd.isna(value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
