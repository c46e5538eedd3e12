from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.scores.intervals import interval, resamples
from leukoscope.scores.metrics import METRICS, PER_CLASS, measure
from leukoscope.scores.predictions import (
    BLOCK,
    HEAD,
    blocks_of,
    classes_of,
    probabilities_of,
    stored_of,
    truth_of,
    validate,
)

Scores = dict[str, dict[str, dict[str, dict[str, Any]]]]


@dataclass(frozen=True)
class Summary:
    """``scores[ENCODER][HEAD][METRIC]`` with mean, sd, low, high and folds; ``per_class`` one row a class and head."""

    scores: Scores
    per_class: pd.DataFrame


def summarise(
    table: pd.DataFrame, *, groups: Mapping[str, str] | None = None, n_bootstrap: int = 1000, seed: int = 0
) -> Summary:
    """Score predictions: mean and sd over folds, and the 95 % bootstrap interval of that mean.

    A metric is computed in every test fold, then averaged over seeds: these are ``folds``, one value for each repeat
    and fold in order. Their mean is ``mean``, their standard deviation (n - 1) ``sd``. For ``low`` and ``high`` the
    test cells (or their groups) are resampled, every fold is scored again and averaged alike, so the interval is about
    the same number as ``mean``. One set of resamples serves all encoders and heads. The interval speaks of other test
    cells, not of other training cells: sd over folds and the tests over folds do that.

    Args:
        table: predictions.
        groups: the group (patient, slide) of each ``cell_id``, which is then resampled instead of cells; else None.
        n_bootstrap: how many resamples; 0 leaves ``low`` and ``high`` undefined.
        seed: of the resamples.

    Raises:
        InputError: when the predictions are not valid.
    """
    return described(table, replicates(table, groups=groups, n_bootstrap=n_bootstrap, seed=seed))


def described(table: pd.DataFrame, found: Mapping[tuple[str, str], np.ndarray]) -> Summary:
    """What :func:`summarise` gives, of the ``replicates`` of a table."""
    classes = classes_of(table)
    support = np.bincount(truth_of(table.drop_duplicates("cell_id")), minlength=len(classes))
    scores: Scores = {}
    rows = []
    for (encoder, head), of_folds in found.items():
        n_overall = len(METRICS)
        scores.setdefault(encoder, {})[head] = {name: _described(of_folds[:, i]) for i, name in enumerate(METRICS)}
        of_classes = of_folds[:, n_overall:].reshape(len(of_folds), len(PER_CLASS), len(classes), -1)
        rows += [
            {
                "encoder": encoder,
                "head": head,
                "class": name,
                "support": int(support[k]),
                **_class_row(of_classes[:, :, k]),
            }
            for k, name in enumerate(classes)
        ]
    return Summary(scores, pd.DataFrame(rows))


def replicates(
    table: pd.DataFrame, *, groups: Mapping[str, str] | None = None, n_bootstrap: int = 1000, seed: int = 0
) -> dict[tuple[str, str], np.ndarray]:
    """Every score of every fold, as the cells are and in each resample of them; arguments as :func:`summarise`.

    Returns:
        By encoder and head ``(folds, METRICS + PER_CLASS * K, 1 + n_bootstrap)``: first the cells as they are.

    Raises:
        InputError: when the predictions are not valid.
    """
    cells = validate(table).drop_duplicates("cell_id")
    position = pd.Index(cells["cell_id"])
    group = None if groups is None else np.array([groups[cell] for cell in position])
    heads = {key: _blocks(rows, position) for key, rows in blocks_of(table, HEAD)}
    tallies = {key: [_tally(blocks, np.ones((len(cells), 1)))] for key, blocks in heads.items()}
    for weights in resamples(truth_of(cells), n_bootstrap, groups=group, seed=seed):
        for key, blocks in heads.items():
            tallies[key].append(_tally(blocks, weights))
    return {
        (str(encoder), str(head)): _over_seeds(np.concatenate(parts, axis=2), heads[encoder, head])
        for (encoder, head), parts in tallies.items()
    }


@dataclass(frozen=True)
class _Block:
    """One test fold of one head and seed, and where its cells stand among all cells."""

    seed: int
    repeat: int
    fold: int
    truth: np.ndarray
    probabilities: np.ndarray
    stored: np.ndarray
    position: np.ndarray


def _blocks(rows: pd.DataFrame, position: pd.Index) -> list[_Block]:
    found = []
    for (*_, seed, repeat, fold), block in blocks_of(rows, BLOCK):
        at = position.get_indexer(pd.Index(block["cell_id"]))
        told = truth_of(block), probabilities_of(block), stored_of(block)
        found.append(_Block(seed, repeat, fold, *told, at))  # type: ignore[arg-type]
    return sorted(found, key=lambda block: (block.repeat, block.fold, block.seed))


def _tally(blocks: list[_Block], weights: np.ndarray) -> np.ndarray:
    """All scores ``(blocks, METRICS + PER_CLASS * K, B)`` of one head under the weightings ``(n, B)``."""
    tallies = []
    for block in blocks:
        measured = measure(block.truth, block.probabilities, weights[block.position], stored=block.stored)
        overall = np.stack([measured.overall[name] for name in METRICS])
        per_class = np.concatenate([measured.per_class[name] for name in PER_CLASS])
        tallies.append(np.concatenate([overall, per_class]))
    return np.stack(tallies)


def _over_seeds(values: np.ndarray, blocks: list[_Block]) -> np.ndarray:
    """Average ``(blocks, scores, 1 + B)`` over seeds: one row for each repeat and fold, in order."""
    keys = [(block.repeat, block.fold) for block in blocks]
    folds = sorted(set(keys))
    return np.stack([_mean(values[[key == fold for key in keys]]) for fold in folds])


def _described(values: np.ndarray) -> dict[str, Any]:
    """``values`` ``(folds, 1 + B)``: column 0 holds the cells as they are, the others the resamples."""
    folds, means = values[:, 0], _mean(values)
    defined = folds[np.isfinite(folds)]
    low, high = interval(float(means[0]), means[1:])
    return {
        "mean": number_or_none(means[0]),
        "sd": number_or_none(defined.std(ddof=1)) if len(defined) > 1 else None,
        "low": number_or_none(low),
        "high": number_or_none(high),
        "folds": [number_or_none(value) for value in folds],
    }


def _class_row(values: np.ndarray) -> dict[str, Any]:
    """``values`` ``(folds, PER_CLASS, 1 + B)`` of one class."""
    row: dict[str, Any] = {}
    for i, name in enumerate(PER_CLASS[1:], start=1):
        described = _described(values[:, i])
        row |= {name: described["mean"], f"{name}_low": described["low"], f"{name}_high": described["high"]}
    return row


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over axis 0 of what is defined; NaN where nothing is."""
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    mean: np.ndarray = np.where(defined, values, 0.0).sum(axis=0) / np.where(count, count, 1)
    return np.where(count, mean, np.nan)


def number_or_none(value: float) -> float | None:
    """A float for JSON, which knows no NaN."""
    return float(value) if np.isfinite(value) else None
