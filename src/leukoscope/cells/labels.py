from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.common.files import whole_file

COLUMNS = ("cell_id", "label", "reviewer", "time", "source")


@dataclass(frozen=True)
class Labels:
    """What people say about cells: an overlay ``cell_id, label, reviewer, time, source`` that never touches a CellSet.

    Where a cell was labelled more than once, the last row counts.
    """

    table: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> "Labels":
        """Read ``.csv`` or ``.parquet``; only ``cell_id`` and ``label`` are required.

        Raises:
            InputError: when the file cannot be read or lacks a required column.
        """
        try:
            table = pd.read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as labels ({str(error).splitlines()[0]})") from None
        missing = [name for name in COLUMNS[:2] if name not in table.columns]
        if missing:
            raise InputError(f"{path}: labels need the columns cell_id and label; missing: {', '.join(missing)}")
        return cls(table.reindex(columns=list(COLUMNS)).astype("string"))

    def write(self, path: Path) -> None:
        """Write the overlay as ``.csv`` or ``.parquet``, by the suffix of ``path``."""
        with whole_file(path) as partial:
            if path.suffix == ".parquet":
                self.table.to_parquet(partial, index=False)
            else:
                self.table.to_csv(partial, index=False)

    def of(self, ids: np.ndarray) -> np.ndarray:
        """The label of each cell of ``ids`` ``(N,)`` as objects: str, or None where nobody labelled it."""
        last = self.table.dropna(subset=["label"]).drop_duplicates("cell_id", keep="last").set_index("cell_id")["label"]
        return _objects(last.reindex(ids))


def labels_of(cellset: CellSet, *, column: str = "label", overlay: Labels | None = None) -> np.ndarray:
    """The label of each cell ``(N,)``: from ``overlay`` if given, else from the table's ``column``; None where unknown.

    Raises:
        InputError: when there is no such column, or the overlay names none of these cells.
    """
    if overlay is None:
        return _objects(cellset.column(column))
    found = overlay.of(cellset.ids)
    if all(label is None for label in found):
        raise InputError(f"{cellset.path}: the labels file names none of its cells; is it of another CellSet?")
    return found


def _read_csv(path: Path) -> pd.DataFrame:
    # A class may be called NA, so only an empty field is an unknown.
    return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])


def _objects(series: pd.Series) -> np.ndarray:
    return np.array([None if pd.isna(value) else str(value) for value in series], dtype=object)
