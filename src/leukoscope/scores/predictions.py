from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from leukoscope.common.errors import InputError
from leukoscope.common.files import whole_file

HEAD = ["encoder", "head"]
RUN = ["encoder", "head", "seed", "repeat"]
BLOCK = [*RUN, "fold"]
COLUMNS = ("cell_id", *BLOCK, "label")
_PREFIX = "p_"


def predictions(
    cell_ids: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    encoder: str,
    head: str,
    seed: int = 0,
    repeat: int = 0,
    fold: int = 0,
) -> pd.DataFrame:
    """The rows of one block: what one head, fitted on one fold's training cells, says about its test cells.

    Args:
        cell_ids: ``(n,)`` of the test cells.
        labels: their true classes ``(n,)``.
        probabilities: ``(n, K)``, in the order of ``classes``; stored as float32.
        classes: the K classes of the task, the same for every block, also where a fold lacks one of them.
        encoder: whose features were used, or the name of a network trained from scratch.
        head: the head's name.
        seed: of the head's initialisation.
        repeat: which repetition of the folds.
        fold: which fold was held out.
    """
    table = pd.DataFrame(
        {
            "cell_id": cell_ids,
            "encoder": encoder,
            "head": head,
            "seed": np.int64(seed),
            "repeat": np.int64(repeat),
            "fold": np.int64(fold),
            "label": labels,
        }
    )
    columns = [_PREFIX + name for name in classes]
    return table.join(pd.DataFrame(np.asarray(probabilities, dtype=np.float32), columns=columns))


def classes_of(table: pd.DataFrame) -> list[str]:
    """The classes of the task, in the order of the ``p_<class>`` columns."""
    return [name.removeprefix(_PREFIX) for name in table.columns if name.startswith(_PREFIX)]


def probabilities_of(table: pd.DataFrame) -> np.ndarray:
    """The probabilities ``(n, K)`` float64, each row scaled to sum to one exactly."""
    values = stored_of(table)
    scaled: np.ndarray = values / values.sum(axis=1, keepdims=True)
    return scaled


def stored_of(table: pd.DataFrame) -> np.ndarray:
    """The probabilities ``(n, K)`` float64 as they are stored, in which equals are equal.

    A third of the votes is scaled by another rounding where two thirds stand beside it than where two other thirds do.
    """
    values: np.ndarray = table[[_PREFIX + name for name in classes_of(table)]].to_numpy(dtype=np.float64)
    return values


def truth_of(table: pd.DataFrame) -> np.ndarray:
    """The true class of each row ``(n,)`` as an index into :func:`classes_of`."""
    codes: np.ndarray = pd.Index(classes_of(table)).get_indexer(pd.Index(table["label"]))
    return codes


def blocks_of(table: pd.DataFrame, by: Sequence[str] = BLOCK) -> Iterator[tuple[tuple[Hashable, ...], pd.DataFrame]]:
    """The blocks of rows that agree in ``by``, in the order in which they first appear."""
    yield from table.groupby(list(by), sort=False)


def validate(table: pd.DataFrame, where: str = "predictions") -> pd.DataFrame:
    """Return ``table`` unchanged if every score can be computed from it.

    Raises:
        InputError: for a missing column, a label that is no class, probabilities that are not finite, negative or do
            not sum to one (to 1e-3), or a cell that one head tested twice in one repeat.
    """
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise InputError(f"{where}: columns missing: {', '.join(missing)}; expected {', '.join(COLUMNS)}, p_<class>...")
    classes = classes_of(table)
    if len(classes) < 2:
        raise InputError(f"{where}: {len(classes)} p_<class> columns; a task needs at least two classes")
    if table.empty:
        raise InputError(f"{where}: no rows; there is nothing to score")
    strangers = sorted(set(table["label"].dropna()) - set(classes))
    if strangers or table["label"].isna().any():
        raise InputError(f"{where}: label {strangers[0] if strangers else 'missing'!r} has no column p_<label>")
    values = stored_of(table)
    bad = ~np.isfinite(values).all(axis=1) | (values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > 1e-3)
    if bad.any():
        at = table.iloc[int(np.argmax(bad))]
        raise InputError(
            f"{where}: {int(bad.sum())} rows hold no probabilities that sum to one; the first is cell "
            f"{at['cell_id']}, encoder {at['encoder']}, head {at['head']}"
        )
    twice = table.duplicated([*RUN, "cell_id"])
    if twice.any():
        at = table.loc[twice].iloc[0]
        raise InputError(
            f"{where}: cell {at['cell_id']} is tested twice by encoder {at['encoder']}, head {at['head']} in one "
            "repeat; a cell belongs to one test fold"
        )
    return table


def write(path: Path, table: pd.DataFrame) -> None:
    """Write a valid predictions table as Parquet, whole or not at all."""
    validate(table, str(path))
    with whole_file(path) as partial:
        table.to_parquet(partial, index=False)


def read(path: Path) -> pd.DataFrame:
    """Read and validate ``predictions.parquet``.

    Raises:
        InputError: when the file cannot be read or is no predictions table.
    """
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as predictions ({str(error).splitlines()[0]})") from None
    return validate(table, str(path))
