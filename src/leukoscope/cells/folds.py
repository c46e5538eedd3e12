from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from leukoscope.cells.blocks import blocks_of
from leukoscope.common.errors import InputError
from leukoscope.common.files import whole_file

COLUMNS = ("cell_id", "repeat", "fold", "role")


def make_folds(
    cells: pd.DataFrame,
    labels: np.ndarray,
    *,
    n_folds: int = 5,
    repeats: int = 1,
    group: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Cross-validation folds over the labelled cells, stratified by label: every cell is tested once a repeat.

    Cells of one ``group`` (a column such as patient or slide; a cell without a value stands alone) and exact
    duplicates (one content hash) never stand on both sides of a fold; both rules together, so a duplicate that two
    patients share keeps all cells of both together.

    ``cells`` is the CellSet's table; ``labels`` holds the label of each cell ``(N,)`` as objects, and a cell with None
    takes no part.

    Returns:
        ``cell_id, repeat, fold, role`` with role ``train`` or ``test``: one row for each cell, repeat and fold.

    Raises:
        InputError: when the group column is missing, or a class has too few cells or groups for ``n_folds``.
    """
    if n_folds < 2 or repeats < 1:
        raise InputError(f"folds: need at least 2 folds and 1 repeat, got {n_folds} and {repeats}")
    ids, classes, blocks = _labelled_blocks(cells, labels, group)
    _refuse_scarce(classes, blocks, n_folds, group)
    tables = []
    for repeat in range(repeats):
        state = int(np.random.SeedSequence((seed, repeat)).generate_state(1)[0])
        test_fold = _stratified(classes, blocks, n_folds, state)
        _refuse_untrained(classes, test_fold)
        for fold in range(n_folds):
            role = np.where(test_fold == fold, "test", "train")
            tables.append(pd.DataFrame({"cell_id": ids, "repeat": repeat, "fold": fold, "role": role}))
    return pd.concat(tables, ignore_index=True)


def split(
    cells: pd.DataFrame,
    labels: np.ndarray,
    shares: Mapping[str, float],
    *,
    group: str | None = None,
    seed: int = 0,
) -> pd.Series:
    """Name a part for each cell, such as ``{"pretrain": 0.6, "evaluate": 0.4}``, stratified by label.

    Duplicates and groups stay together as in :func:`make_folds`. Cells without a label are stratified as a class of
    their own. The shares hold as nearly as the blocks of cells that must stay together allow.

    Returns:
        The names ``(N,)``, with the index of ``cells``.

    Raises:
        InputError: when the shares are not positive or do not sum to 1, or the group column is missing.
    """
    if not shares or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError(f"split: the shares must be positive and sum to 1, got {dict(shares)}")
    classes = np.array(["" if label is None else str(label) for label in labels], dtype=object)
    blocks = blocks_of(cells, group)
    names = np.array(list(shares), dtype=object)
    return pd.Series(names[_fill(classes, blocks, np.array(list(shares.values())), seed)], index=cells.index)


def write(path: Path, folds: pd.DataFrame) -> None:
    """Write folds as parquet."""
    with whole_file(path) as partial:
        folds.to_parquet(partial, index=False)


def read(path: Path) -> pd.DataFrame:
    """Read folds.

    Raises:
        InputError: when the file cannot be read or lacks a column.
    """
    try:
        folds = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as folds ({str(error).splitlines()[0]})") from None
    missing = [name for name in COLUMNS if name not in folds.columns]
    if missing:
        raise InputError(f"{path}: folds need the columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}")
    return folds


def _labelled_blocks(
    cells: pd.DataFrame, labels: np.ndarray, group: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known = np.array([label is not None for label in labels], dtype=bool)
    if len(labels) != len(cells):
        raise ValueError(f"{len(cells)} cells but {len(labels)} labels")
    if not known.any():
        raise InputError("folds: no cell has a label; give --label COLUMN or --labels FILE")
    chosen = cells.loc[known]
    return chosen["cell_id"].to_numpy(), labels[known].astype(str), blocks_of(chosen, group)


def _refuse_scarce(classes: np.ndarray, blocks: np.ndarray, n_folds: int, group: str | None) -> None:
    table = pd.DataFrame({"class": classes, "block": blocks})
    counts = table.groupby("class")["block"].agg(["size", "nunique"])
    for name, (n_cells, n_blocks) in counts.iterrows():
        if n_cells < n_folds:
            raise InputError(
                f"class {name!r}: {n_cells} cells are too few for {n_folds} folds; leave it out or label more"
            )
        if n_blocks < n_folds:
            what = f"groups of {group!r}" if group else "different images"
            raise InputError(f"class {name!r}: {n_blocks} {what} are too few for {n_folds} folds; use fewer folds")


def _refuse_untrained(classes: np.ndarray, test_fold: np.ndarray) -> None:
    """A few unequal groups can put all cells of a class into one test fold, so that no cell of it is left to train."""
    for name in np.unique(classes):
        if len(set(test_fold[classes == name])) == 1:
            raise InputError(
                f"class {str(name)!r}: its groups all fall into one test fold; leave it out or try another seed"
            )


def _stratified(classes: np.ndarray, blocks: np.ndarray, n_folds: int, state: int) -> np.ndarray:
    """The fold in which each cell is tested."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    shuffled = {"n_splits": n_folds, "shuffle": True, "random_state": state}
    alone = len(np.unique(blocks)) == len(blocks)
    places = np.zeros(len(classes))
    if alone:
        parts = StratifiedKFold(**shuffled).split(places, classes)
    else:
        parts = StratifiedGroupKFold(**shuffled).split(places, classes, blocks)
    fold = np.full(len(classes), -1)
    for number, (_, test) in enumerate(parts):
        fold[test] = number
    return fold


def _fill(classes: np.ndarray, blocks: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """The part of each cell: blocks of several cells first, large ones before small; single cells even out the rest."""
    rng = np.random.default_rng(seed)
    class_of, block_of = pd.factorize(classes)[0], pd.factorize(blocks)[0]
    size = np.bincount(block_of)
    lacking = shares[:, None] * np.bincount(class_of)
    part = np.full(len(classes), -1)
    several = np.flatnonzero(size > 1)
    members = _members(block_of, size, several)
    for number in sorted(rng.permutation(len(several)), key=lambda number: -size[several[number]]):
        counts = np.bincount(class_of[members[number]], minlength=lacking.shape[1])
        part[members[number]] = chosen = _neediest(lacking, counts, shares)
        lacking[chosen] -= counts
    for label in range(lacking.shape[1]):
        single = rng.permutation(np.flatnonzero((class_of == label) & (part < 0)))
        ends = np.round(np.cumsum(_proportions(lacking[:, label], shares)) * len(single)).astype(int)
        part[single] = np.searchsorted(ends, np.arange(len(single)), side="right")
    return part


def _members(block_of: np.ndarray, size: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """The cells of each wanted block."""
    order = np.argsort(block_of, kind="stable")
    ends = np.cumsum(size)
    return [order[ends[block] - size[block] : ends[block]] for block in wanted]


def _neediest(lacking: np.ndarray, counts: np.ndarray, shares: np.ndarray) -> int:
    """The part that lacks most, relative to its share, of the classes of a block."""
    return int(np.argmax(lacking @ counts / shares))


def _proportions(lacking: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """How the single cells of a class are dealt: by what each part still lacks, by the shares when none lacks any."""
    open_places = np.clip(lacking, 0, None)
    total = open_places.sum()
    return open_places / total if total > 0 else shares
