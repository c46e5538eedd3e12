from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.cells.folds import make_folds
from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features
from leukoscope.probes.crossval import ProbeSettings, cross_validate
from leukoscope.probes.evaluated import align
from leukoscope.scores.summary import summarise


def batch_probe(
    features: Mapping[str, Features],
    labels: np.ndarray,
    column: str,
    *,
    n_folds: int = 5,
    n_bootstrap: int = 1000,
    settings: ProbeSettings | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """How well features tell where a cell came from, and how much of its class can be told from that alone.

    A linear probe is fitted to ``column`` (a batch, slide or donor) in cross-validation. What stands beside it says how
    to read it: where classes are spread unevenly over batches, the class alone tells something of the batch, and the
    batch of the class. Features that tell the batch far better than the class does carry the instrument or the stain.

    Args:
        features: by the encoder's name, of the same cells.
        labels: the class of each cell ``(N,)``, None where unknown.
        column: of the cells' table; values of fewer cells than folds take no part.
        n_folds: folds, stratified by ``column``.
        n_bootstrap: resamples of the intervals.
        settings: of the probe.
        seed: of folds and resamples.

    Returns:
        ``values`` (cells of each), ``encoders[NAME]`` with ``accuracy`` and ``balanced_accuracy`` of the batch told
        from features (``mean, low, high``); ``from_label``, ``majority``: the accuracy of the batch told from the class
        alone, and by always naming the largest; ``label_from_batch``, ``label_majority``: likewise of the class.

    Raises:
        InputError: when the column is missing or holds fewer than two values that are frequent enough.
    """
    aligned = align(features)
    cells = next(iter(aligned.values())).cells
    if column not in cells.columns:
        raise InputError(f"--database {column}: no such column; the table has {', '.join(cells.columns)}")
    values = cells[column].astype("string")
    known = np.array([label is not None for label in labels])
    counts = values[known].value_counts()
    frequent = counts[counts >= n_folds]
    if len(frequent) < 2:
        raise InputError(f"--database {column}: {len(frequent)} values of {n_folds} cells or more; two are needed")
    keep = values.isin(frequent.index).to_numpy() & known
    batches, kinds, every = (_where(keep, given) for given in (values.to_numpy(dtype=object), labels, "all"))
    folds = make_folds(cells, batches, n_folds=n_folds, seed=seed)
    encoders = {}
    for name, each in aligned.items():
        table = cross_validate(each, batches, folds, heads=("linear",), encoder=name, settings=settings).predictions
        scores = summarise(table, n_bootstrap=n_bootstrap, seed=seed).scores[name]["linear"]
        encoders[name] = {key: _ends(scores[key]) for key in ("accuracy", "balanced_accuracy")}
    return {
        "column": column,
        "values": {str(value): int(n) for value, n in frequent.items()},
        "encoders": encoders,
        "from_label": _told(folds, cells, given=kinds, wanted=batches),
        "majority": _told(folds, cells, given=every, wanted=batches),
        "label_from_batch": _told(folds, cells, given=batches, wanted=kinds),
        "label_majority": _told(folds, cells, given=every, wanted=kinds),
    }


def _where(keep: np.ndarray, values: np.ndarray | str) -> np.ndarray:
    """``values`` at the cells to ``keep``, None elsewhere."""
    chosen = np.full(len(keep), None, dtype=object)
    chosen[keep] = values if isinstance(values, str) else values[keep]
    return chosen


def _ends(score: Mapping[str, Any]) -> dict[str, Any]:
    return {key: score[key] for key in ("mean", "low", "high")}


def _told(folds: pd.DataFrame, cells: pd.DataFrame, *, given: np.ndarray, wanted: np.ndarray) -> float:
    """Mean accuracy over folds of naming, for each ``given``, the most frequent ``wanted`` of the training cells."""
    by_cell = pd.DataFrame({"given": given, "wanted": wanted}, index=cells["cell_id"])
    table = folds.join(by_cell, on="cell_id")
    accuracy = []
    for _, part in table.groupby(["repeat", "fold"]):
        train, test = (part[part["role"] == role] for role in ("train", "test"))
        most = train.groupby("given")["wanted"].agg(lambda values: values.value_counts().index[0])
        accuracy.append(float((test["given"].map(most) == test["wanted"]).mean()))
    return float(np.mean(accuracy))
