from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from leukoscope.cells.groups import resolve_group
from leukoscope.cells.labels import Labels
from leukoscope.common.errors import InputError
from leukoscope.common.runs import run_folder
from leukoscope.encoders.features import Features
from leukoscope.probes.batch import batch_probe
from leukoscope.probes.crossval import ProbeSettings
from leukoscope.probes.evaluated import align, labels_of_cells
from leukoscope.probes.sanity import sanity_test
from leukoscope.scores import predictions as predictions_file


def sanity(
    features: Mapping[str, Features],
    out: Path,
    *,
    database: str,
    suspect: str | None = None,
    home: str | None = None,
    label: str = "label",
    overlay: Labels | None = None,
    group: str | None = None,
    heads: Sequence[str] = ("linear",),
    n_folds: int = 5,
    n_bootstrap: int = 1000,
    settings: ProbeSettings | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Whether features know the cell or where it came from: the batch probe, and the sanity test of one class.

    Args:
        features: by the encoder's name, of the same cells.
        out: the run folder: ``results.json``; with ``suspect`` also ``predictions.parquet`` and ``tables/sanity.csv``.
        database: the column that says where a cell was collected: a database, an instrument, a batch, a slide.
        suspect: a class whose training cells come from one place, ``home``; None leaves the sanity test out.
        home: that place.
        label: the column of the class.
        overlay: labels laid over the table instead.
        group: a column whose cells stay in one fold, as in :func:`~leukoscope.probes.evaluate.evaluate`.
        heads: of the sanity test.
        n_folds: folds of either.
        n_bootstrap: resamples of the batch probe's intervals.
        settings: of the heads.
        seed: of folds, heads and resamples.
        overwrite: replace what ``out`` holds.

    Returns:
        What ``results.json`` holds, less the provenance: ``batch`` of :func:`~leukoscope.probes.batch.batch_probe`, and
        ``sanity`` of :func:`~leukoscope.probes.sanity.sanity_test` or None.

    Raises:
        InputError: as these two, and when only one of ``suspect`` and ``home`` is given.
    """
    if (suspect is None) != (home is None):
        raise InputError("sanity: --class and --home belong together; give both or neither")
    cells = next(iter(align(features).values())).cells
    labels = labels_of_cells(cells, label=label, overlay=overlay)
    recipe = {"encoders": list(features), "database": database, "class": suspect, "home": home, "label": label}
    with run_folder(out, verb="sanity", settings={**recipe, "seed": seed}, seed=seed, overwrite=overwrite) as run:
        told = batch_probe(
            features, labels, database, n_folds=n_folds, n_bootstrap=n_bootstrap, settings=settings, seed=seed
        )
        content: dict[str, Any] = {"batch": told, "sanity": None}
        if suspect is not None and home is not None:
            content["sanity"], table = sanity_test(
                features,
                labels,
                database=database,
                suspect=suspect,
                home=home,
                group=resolve_group(cells, group),
                heads=heads,
                n_folds=n_folds,
                settings=settings,
                seed=seed,
            )
            predictions_file.write(run.path / "predictions.parquet", table)
            (run.path / "tables").mkdir()
            sanity_table(content["sanity"]["scores"]).to_csv(run.path / "tables" / "sanity.csv", index=False)
        run.finish(content)
    return content


def sanity_table(scores: Mapping[str, Any]) -> pd.DataFrame:
    """``scores`` of the sanity test as one row for each encoder, head and set, with a column a training."""
    rows = [
        {"encoder": encoder, "head": head, "tested on": name, "training": training, "accuracy": found["accuracy"]}
        for training, encoders in scores.items()
        for encoder, heads in encoders.items()
        for head, sets in heads.items()
        for name, found in sets.items()
    ]
    table = pd.DataFrame(rows).pivot(index=["encoder", "head", "tested on"], columns="training", values="accuracy")
    return table.reset_index().rename_axis(columns=None)
