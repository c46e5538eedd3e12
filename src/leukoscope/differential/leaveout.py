"""How well unknown kinds of cells are noticed: each kind in turn is left out of what the classifier knows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from leukoscope.cells.folds import make_folds
from leukoscope.cells.groups import resolve_group
from leukoscope.cells.labels import Labels
from leukoscope.common.errors import InputError
from leukoscope.common.files import refuse_folder
from leukoscope.common.progress import progress
from leukoscope.common.runs import log, run_folder, run_mark
from leukoscope.differential.fit import splits_of
from leukoscope.differential.novelty import FALSE_ALARM, Reference, cells_to_notice, learn_novelty
from leukoscope.encoders.features import Features
from leukoscope.probes.evaluated import labels_of_cells

_SIZES = (200, 500, 2000)
_RESAMPLES = 500


def leave_out(
    features: Features,
    out: Path,
    *,
    kinds: Sequence[str] = (),
    label: str = "label",
    overlay: Labels | None = None,
    group: str | None = None,
    n_folds: int = 5,
    false_alarm: float = FALSE_ALARM,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Leave kinds of cells out of the reference, one at a time, and see how novel their cells are.

    Of the known cells a fifth is held out (groups whole), and the limit is set on the rest by cross-validation, as
    ``fit`` sets it. The held-out cells show how often known ones pass it, those of the kind left out how often unknown
    ones do. The encoder may have seen all of them, without labels.

    Args:
        features: of labelled cells.
        out: the run folder: ``results.json`` and ``tables/novelty.csv``, a row a kind and measure.
        kinds: to leave out; all, if none is named.
        label: the column that holds the kind.
        overlay: labels laid over the table instead.
        group: a column whose cells stay together; None takes ``patient`` or else ``slide``.
        n_folds: of the cross-validation that sets the limit.
        false_alarm: the share of known cells that may pass it.
        seed: of the folds.
        overwrite: replace what ``out`` holds.

    Returns:
        What ``results.json`` holds: ``rows``, each with ``kind``, ``measure``, ``roc_auc`` and its bootstrap
        ``interval`` over cells, ``false_alarm`` among the held-out cells, ``detected`` among those left out, and
        ``noticed_from``, how many of them in a sample of so many cells raise its flag with probability 0.95 (None where
        not even a sample of nothing else does).

    Raises:
        InputError: when a kind has no cells, or the known ones are too few to set a limit.
    """
    refuse_folder(out, run_mark("novelty"), overwrite=overwrite)
    labels = labels_of_cells(features.cells, label=label, overlay=overlay)
    there = sorted({name for name in labels if name is not None})
    strangers = [kind for kind in kinds if kind not in there]
    if strangers:
        raise InputError(f"no cell is of kind {strangers[0]!r}; there are {', '.join(there)}")
    group = resolve_group(features.cells, group)
    left_out = list(kinds) or there
    settings = {"kinds": left_out, "group": group, "n_folds": n_folds, "false_alarm": false_alarm}
    with run_folder(out, verb="novelty", settings=settings, seed=seed, overwrite=overwrite) as run:
        rows = []
        with progress("novelty", len(left_out), "kinds") as advance:
            for kind in left_out:
                rows += _without(features, labels, kind, group, n_folds, false_alarm, seed)
                advance(1)
        (run.path / "tables").mkdir()
        table = pd.json_normalize(rows)
        table.to_csv(run.path / "tables" / "novelty.csv", index=False)
        results = {"rows": rows}
        run.fingerprint("pixels", str(features.uns.get("pixels_fingerprint", "")))
        run.finish(results)
    log.info("novelty %s: %d kinds left out", out, len(left_out))
    return results


def _without(
    features: Features,
    labels: np.ndarray,
    kind: str,
    group: str | None,
    n_folds: int,
    false_alarm: float,
    seed: int,
) -> list[dict[str, Any]]:
    """A row for each measure, with ``kind`` unknown."""
    of_known = np.array([name if name != kind else None for name in labels], dtype=object)
    y = pd.Index(sorted({name for name in of_known if name is not None})).get_indexer(pd.Index(of_known))
    outer = make_folds(features.cells, of_known, n_folds=5, group=group, seed=seed)
    training, held_out = splits_of(outer, features.ids)[0]
    inner_labels = np.full(len(labels), None, dtype=object)
    inner_labels[training] = of_known[training]
    inner = make_folds(features.cells, inner_labels, n_folds=n_folds, group=group, seed=seed)
    x = features.x
    limits = learn_novelty(
        ((Reference.of(x[fit], y[fit], seed=seed), x[test]) for fit, test in splits_of(inner, features.ids)),
        false_alarm=false_alarm,
    )
    if limits is None:
        raise InputError(f"{len(training)} known cells without {kind} are too few for a false alarm of {false_alarm:g}")
    reference, unknown = Reference.of(x[training], y[training], seed=seed), np.flatnonzero(labels == kind)
    measures = {
        "knn": (reference.knn_distance, limits.knn),
        "mahalanobis": (reference.mahalanobis_distance, limits.mahalanobis),
    }
    rows = []
    for measure, (distance, limit) in measures.items():
        known_distance, unknown_distance = distance(x[held_out]), distance(x[unknown])
        truth = np.repeat([0, 1], [len(held_out), len(unknown)])
        distances = np.concatenate([known_distance, unknown_distance])
        detected, alarms = float((unknown_distance > limit).mean()), float((known_distance > limit).mean())
        rows.append(
            {
                "kind": kind,
                "measure": measure,
                "known": len(held_out),
                "unknown": len(unknown),
                "roc_auc": float(roc_auc_score(truth, distances)),
                "interval": _auc_interval(known_distance, unknown_distance, seed),
                "false_alarm": alarms,
                "detected": detected,
                "noticed_from": {str(n): cells_to_notice(n, limits, detected) for n in _SIZES},
            }
        )
    return rows


def _auc_interval(known: np.ndarray, unknown: np.ndarray, seed: int) -> list[float]:
    """The 95 % percentile bootstrap interval of the area under the ROC curve, known and unknown cells drawn apart."""
    rng = np.random.default_rng(seed)
    truth = np.repeat([0, 1], [len(known), len(unknown)])
    areas = [
        roc_auc_score(truth, np.concatenate([rng.choice(known, len(known)), rng.choice(unknown, len(unknown))]))
        for _ in range(_RESAMPLES)
    ]
    return [float(end) for end in np.quantile(areas, [0.025, 0.975])]
