from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from leukoscope.cells import folds as folds_file
from leukoscope.cells.cellset import CellSet
from leukoscope.cells.labels import Labels
from leukoscope.common.runs import RunFolder, log, run_folder
from leukoscope.encoders.features import Features
from leukoscope.probes.crossval import cross_validate
from leukoscope.probes.evaluated import Evaluated, evaluated_cells
from leukoscope.probes.origin import describe_encoders
from leukoscope.scores import predictions as predictions_file
from leukoscope.scores.results import Results, covers, score_predictions

HEADS = ("linear", "mlp", "knn")


def evaluate(
    features: Mapping[str, Features],
    out: Path,
    *,
    label: str = "label",
    overlay: Labels | None = None,
    group: str | None = None,
    heads: Sequence[str] = HEADS,
    n_folds: int = 5,
    repeats: int = 1,
    seeds: Sequence[int] = (0,),
    folds: pd.DataFrame | None = None,
    extra_predictions: pd.DataFrame | None = None,
    pretrain: Sequence[CellSet] = (),
    task: str = "",
    n_bootstrap: int = 1000,
    seed: int = 0,
    settings: Any = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Compare frozen encoders: fit heads on their features in cross-validation, score what they say of held-out cells.

    ``out`` becomes a run folder: ``results.json``, ``predictions.parquet``, ``folds.parquet``, ``choices.csv``,
    ``tables/``, ``provenance.json``. All encoders, heads and baselines are held to the same folds.

    Args:
        features: by the encoder's name; all of the same cells, in any order.
        out: the run folder.
        label: the column of the cells' table that holds the class; cells without one take no part.
        overlay: labels laid over the table instead.
        group: a column whose cells stay in one fold and are resampled together; None takes ``patient`` or else
            ``slide`` where the table has it, ``"none"`` groups nothing.
        heads: which heads, of ``linear``, ``mlp`` and ``knn``.
        n_folds: folds a repeat.
        repeats: repetitions of the cross-validation with other folds.
        seeds: of the heads' initialisation; scores are averaged over them.
        folds: folds made before; ``group`` then only says what is resampled.
        extra_predictions: of supervised baselines on the same folds, scored beside the heads.
        pretrain: the CellSets that the encoders were pre-trained on, searched for evaluated cells.
        task: what is told apart, for the reader.
        n_bootstrap: resamples of the intervals.
        seed: of folds and resamples.
        settings: of the heads, see :func:`~leukoscope.probes.crossval.cross_validate`.
        overwrite: replace what ``out`` holds.

    Returns:
        What ``results.json`` holds, less the provenance.

    Raises:
        InputError: when features, labels, folds or baselines do not fit each other, or ``out`` exists.
    """
    cells = evaluated_cells(
        features, label=label, overlay=overlay, group=group, n_folds=n_folds, repeats=repeats, folds=folds, seed=seed
    )
    if extra_predictions is not None:
        covers(extra_predictions, cells.folds, where="extra_predictions")
    recipe = {
        "encoders": list(features),
        "label": label if overlay is None else "labels file",
        "group": cells.group,
        "heads": list(heads),
        "n_folds": n_folds,
        "repeats": repeats,
        "seeds": list(seeds),
        "task": task,
        "n_bootstrap": n_bootstrap,
        "seed": seed,
    }
    with run_folder(out, verb="evaluate", settings=recipe, seed=seed, overwrite=overwrite) as run:
        log.info("%d cells of %d classes, grouped by %s", len(cells.labels), len(cells.classes), cells.group)
        table, choices = _cross_validated(cells, heads=heads, seeds=seeds, settings=settings)
        if extra_predictions is not None:
            table = pd.concat([table, extra_predictions[table.columns]], ignore_index=True)
        results = score_predictions(table, cells.folds, task=task, n_bootstrap=n_bootstrap, seed=seed)
        origin = describe_encoders(cells.features, pretrain)
        content = {**results.content, "group": cells.group, "seeds": list(seeds), **origin}
        _write(run, Results(content, results.tables), table, cells.folds, choices)
    return content


def _cross_validated(
    cells: Evaluated, *, heads: Sequence[str], seeds: Sequence[int], settings: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    chosen = {} if settings is None else {"settings": settings}
    tables, choices = [], []
    for name, features in cells.features.items():
        log.info("encoder %s: heads %s", name, ", ".join(heads))
        found = cross_validate(features, cells.labels, cells.folds, heads=heads, encoder=name, seeds=seeds, **chosen)
        tables.append(found.predictions)
        choices.append(found.choices)
    return pd.concat(tables, ignore_index=True), pd.concat(choices, ignore_index=True)


def _write(run: RunFolder, results: Results, table: pd.DataFrame, folds: pd.DataFrame, choices: pd.DataFrame) -> None:
    predictions_file.write(run.path / "predictions.parquet", table)
    folds_file.write(run.path / "folds.parquet", folds)
    choices.to_csv(run.path / "choices.csv", index=False)
    write_tables(run.path, results)
    for name, origin in results.content["encoders"].items():
        for key in ("encoder_fingerprint", "pixels_fingerprint", "table_fingerprint"):
            if key in origin:
                run.fingerprint(f"{name}.{key.removesuffix('_fingerprint')}", origin[key])
    run.finish(results.content)


def write_tables(run: Path, results: Results) -> None:
    """Write the flat tables of ``results`` as ``tables/*.csv``."""
    (run / "tables").mkdir(exist_ok=True)
    for name, frame in results.tables.items():
        frame.to_csv(run / "tables" / f"{name}.csv", index=False)
