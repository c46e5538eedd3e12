import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from leukoscope.common.errors import InputError
from leukoscope.encoders.features import stored_cells

_TEXT = {"cell_id": str, "predicted": str, "set_aside": str}
_DISTANCES = {"novelty": [""], "mahalanobis": [""]}


def read_sample_table(run: Path, classes: Sequence[str]) -> pd.DataFrame:
    """The table ``cells.csv`` of the classified sample ``run``, which must be whole.

    Raises:
        InputError: when it is no table, lacks a column, holds fewer or more cells than the features beside it, calls a
            cell none of ``classes``, or has a probability that is no number.
    """
    path = run / "cells.csv"
    try:
        table = pd.read_csv(path, dtype=_TEXT, keep_default_na=False, na_values=_DISTANCES)
    except ValueError as error:  # pandas' own are of this kind
        raise _damaged(path, str(error).strip().splitlines()[0]) from None
    if not _ends_a_line(path):
        raise _damaged(path, "it ends within a row")
    numbers = [*(f"p_{name}" for name in classes), "doubt"]
    missing = [name for name in (*_TEXT, *numbers, "novelty") if name not in table.columns]
    if missing:
        raise _damaged(path, f"it has no column {missing[0]}")
    # A sample whose features were left behind can still be read.
    if (features := run / "features.h5ad").exists() and len(table) != (cells := stored_cells(features)):
        raise _damaged(path, f"it has {len(table):,} cells, and {features.name} beside it {cells:,}")
    odd = [name for name in (*numbers, "novelty") if not _is_number(table[name], may_lack=name in _DISTANCES)]
    if odd:
        raise _damaged(path, f"{odd[0]} is not a number in every row")
    strange = table["predicted"][~table["predicted"].isin(classes)]
    if len(strange):
        raise _damaged(path, f"row {strange.index[0]} was called {strange.iloc[0]!r}, which is none of the classes")
    return table


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _is_number(column: pd.Series, *, may_lack: bool) -> bool:
    return pd.api.types.is_numeric_dtype(column) and (may_lack or bool(np.isfinite(column).all()))


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path}: damaged: {why}; classify the sample again")
