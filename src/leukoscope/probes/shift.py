from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.cells import folds as folds_file
from leukoscope.cells.cellset import contents_of
from leukoscope.cells.groups import NO_GROUP, resolve_group
from leukoscope.cells.labels import Labels
from leukoscope.common.errors import InputError
from leukoscope.common.runs import RunFolder, log, run_folder
from leukoscope.encoders.features import Features
from leukoscope.probes.across import Across, predict_across
from leukoscope.probes.crossval import ProbeSettings
from leukoscope.probes.evaluated import align, evaluated_cells, labels_of_cells
from leukoscope.probes.origin import describe_encoders
from leukoscope.scores import predictions as predictions_file
from leukoscope.scores.confusion import confusion
from leukoscope.scores.results import group_of, scores_table
from leukoscope.scores.shift import REMEDIED, drop_table, drops
from leukoscope.scores.summary import described, replicates


def shift(
    known: Mapping[str, Features],
    new: Mapping[str, Mapping[str, Features]],
    out: Path,
    *,
    label: str = "label",
    overlays: tuple[Labels | None, Labels | None] = (None, None),
    classes: Sequence[str] | None = None,
    groups: tuple[str | None, str | None] = (None, None),
    heads: Sequence[str] = ("linear", "knn"),
    n_folds: int = 5,
    repeats: int = 1,
    folds: pd.DataFrame | None = None,
    settings: ProbeSettings | None = None,
    task: str = "",
    n_bootstrap: int = 1000,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """How heads fitted on cells of one origin fare on cells of another: scores of both, and the drop between them.

    Every training fold of the known cells fits its heads once; they predict the known cells held out and all of the new
    ones, in the classes that both sets have. No label of a new cell is used but to score.

    Args:
        known: features of the known cells, by the encoder's name.
        new: features of the new cells, by the encoder's name and by what was done about the shift (``""`` for nothing).
        out: the run folder: ``results.json``, ``tables/``, and predictions and folds of both sets.
        label: the column of the class, in both tables.
        overlays: labels laid over the known and the new table instead.
        classes: those that take part; all that both sets have if None.
        groups: the columns whose cells stay together and are resampled together, of the known and the new cells; as in
            :func:`~leukoscope.probes.evaluate.evaluate`.
        heads: which heads.
        n_folds: folds a repeat, of the known cells.
        repeats: repetitions with other folds.
        folds: folds of the known cells that were made before; cells of other classes are left out of them.
        settings: of the heads.
        task: what is told apart, for the reader.
        n_bootstrap: resamples of the intervals.
        seed: of folds, heads and resamples.
        overwrite: replace what ``out`` holds.

    Returns:
        What ``results.json`` holds, less the provenance.

    Raises:
        InputError: when encoders, cells or classes do not fit each other, or ``out`` exists.
    """
    if known.keys() != new.keys():
        raise InputError(f"shift: known cells have encoders {', '.join(known)}, new cells {', '.join(new)}; embed both")
    every = align({f"{encoder}{REMEDIED}{done}": each for encoder, by in new.items() for done, each in by.items()})
    strangers = next(iter(every.values())).cells
    truth = labels_of_cells(strangers, label=label, overlay=overlays[1])
    seen = next(iter(known.values())).cells
    own = labels_of_cells(seen, label=label, overlay=overlays[0])
    common = _common(own, truth, classes)
    ids = seen["cell_id"].to_numpy()
    cells = evaluated_cells(
        known,
        label=label,
        overlay=_only(ids, own, common),
        group=groups[0],
        n_folds=n_folds,
        repeats=repeats,
        folds=None if folds is None else folds[folds["cell_id"].isin(ids[np.isin(own, common)])],
        seed=seed,
    )
    keep = np.isin(truth, common)
    wanted = {
        encoder: {done: every[f"{encoder}{REMEDIED}{done}"].select(keep) for done in by} for encoder, by in new.items()
    }
    group = resolve_group(strangers, groups[1] or NO_GROUP)
    recipe = {"encoders": list(known), "label": label, "heads": list(heads), "task": task, "seed": seed}
    recipe |= {"n_folds": n_folds, "repeats": repeats, "n_bootstrap": n_bootstrap}
    shared = len(set(contents_of(seen)) & set(contents_of(strangers)))
    with run_folder(out, verb="shift", settings=recipe, seed=seed, overwrite=overwrite) as run:
        if shared:
            log.warning(f"{shared} images are among the known and the new cells: what is lost looks smaller than it is")
        log.info("%d known and %d new cells of classes %s", len(cells.labels), keep.sum(), ", ".join(common))
        found = predict_across(cells, wanted, truth[keep], group=group, heads=heads, seed=seed, settings=settings)
        content = {
            "task": task,
            "classes": common,
            "left_out": {"known": _others(own, common), "new": _others(truth, common)},
            "n": {"known": len(cells.labels), "new": int(keep.sum())},
            "shared_cells": shared,
            **_score(run, found, n_bootstrap=n_bootstrap, seed=seed),
            **describe_encoders(cells.features),
        }
        run.finish(content)
    return content


def _common(known: np.ndarray, new: np.ndarray, classes: Sequence[str] | None) -> list[str]:
    sets = [{label for label in labels if label is not None} for labels in (known, new)]
    common = sorted(sets[0] & sets[1])
    if classes is not None:
        if missing := [name for name in classes if name not in common]:
            raise InputError(f"shift: class {missing[0]!r} is not in both sets; they share {', '.join(common)}")
        common = sorted(classes)
    if len(common) < 2:
        raise InputError(
            f"shift: known cells have classes {', '.join(sorted(sets[0]))}, new ones {', '.join(sorted(sets[1]))}; "
            "at least two must be common to both"
        )
    return common


def _only(ids: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Labels:
    keep = np.isin(labels, classes)
    return Labels(pd.DataFrame({"cell_id": ids[keep], "label": labels[keep]}))


def _others(labels: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    """Cells of each class that takes no part."""
    names, counts = np.unique([label for label in labels if label not in (None, *classes)], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _score(run: RunFolder, found: Across, *, n_bootstrap: int, seed: int) -> dict[str, Any]:
    """Scores, drops and confusion; predictions, folds and tables go into the run folder."""
    (run.path / "tables").mkdir()
    scores, resampled = {}, {}
    for number, (name, each) in enumerate((("known", found.known), ("new", found.new))):
        predictions_file.write(run.path / f"{name}.predictions.parquet", each.predictions)
        folds_file.write(run.path / f"{name}.folds.parquet", each.folds)
        # Other seeds for the other set: the two are resampled independently of each other.
        resampled[name] = replicates(
            each.predictions, groups=group_of(each.folds), n_bootstrap=n_bootstrap, seed=seed + number
        )
        scores[name] = described(each.predictions, resampled[name]).scores
        scores_table(scores[name]).to_csv(run.path / "tables" / f"scores_{name}.csv", index=False)
    lost = drops(resampled["known"], resampled["new"])
    drop_table(lost).to_csv(run.path / "tables" / "drop.csv", index=False)
    return {"scores": scores, "drop": lost, "confusion": confusion(found.new.predictions)}
