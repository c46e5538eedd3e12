from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.bags.bags import bags_of
from leukoscope.bags.crossval import HEADS, BagSettings, bag_folds, cross_validate_bags
from leukoscope.cells import folds as folds_file
from leukoscope.cells.cellset import CellSet
from leukoscope.common.files import whole_file
from leukoscope.common.runs import log, run_folder
from leukoscope.encoders.features import Features
from leukoscope.probes.evaluated import align
from leukoscope.probes.origin import describe_encoders
from leukoscope.scores import predictions as predictions_file
from leukoscope.scores.results import score_predictions


def mil(
    features: Mapping[str, Features],
    out: Path,
    *,
    bag: str = "patient",
    label: str = "label",
    heads: Sequence[str] = HEADS,
    n_folds: int = 5,
    seeds: Sequence[int] = (0, 1, 2),
    settings: BagSettings | None = None,
    pretrain: Sequence[CellSet] = (),
    task: str = "",
    n_bootstrap: int = 1000,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Judge patients by their cells: cross-validate models of bags on frozen features, patients kept whole.

    Folds are stratified over patients; those that share an image stay together. Of a training fold a quarter of the
    patients tells when to stop; the test patients are judged once.

    Args:
        features: by the encoder's name, of the same cells.
        out: the run folder: ``predictions.parquet`` (a row a patient), ``attention.parquet`` (a row a cell),
            ``folds.parquet``, ``fits.csv``, ``tables/``, ``results.json``.
        bag: the column that names a cell's patient.
        label: the column of the patient's class.
        heads: names of :data:`~leukoscope.bags.registry.MODELS`, and ``mean-features`` for the baseline.
        n_folds: of the cross-validation.
        seeds: of the models.
        settings: see :class:`BagSettings`.
        pretrain: the CellSets that the encoders were pre-trained on, to tell which cells they have seen.
        task: what is told apart, for the reader.
        n_bootstrap: resamples of patients that the intervals rest on.
        seed: of the folds and resamples.
        overwrite: replace a run of this verb.

    Returns:
        What ``results.json`` holds, less the provenance.

    Raises:
        InputError: when patients, classes, heads or settings do not fit.
        CheckFailed: when training diverges.
    """
    settings = settings or BagSettings()
    for name, each in features.items():
        each.require_finite(name)
    bags = {name: bags_of(each, bag=bag, label=label) for name, each in align(features).items()}
    first = next(iter(bags.values()))
    folds = bag_folds(first, n_folds=n_folds, seed=seed)
    recipe = {
        "encoders": list(features),
        "bag": bag,
        "label": label,
        "heads": list(heads),
        "n_folds": n_folds,
        "seeds": list(seeds),
        "task": task,
        "n_bootstrap": n_bootstrap,
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
    }
    with run_folder(out, verb="mil", settings=recipe, seed=seed, overwrite=overwrite) as run:
        sizes = first.sizes
        log.info("%d bags of %d to %d cells, %d classes", len(sizes), sizes.min(), sizes.max(), len(first.classes))
        found = [
            cross_validate_bags(each, folds, heads=heads, encoder=name, seeds=seeds, settings=settings)
            for name, each in bags.items()
        ]
        table = pd.concat([each.predictions for each in found], ignore_index=True)
        results = score_predictions(table, folds, task=task, n_bootstrap=n_bootstrap, seed=seed)
        predictions_file.write(run.path / "predictions.parquet", table)
        folds_file.write(run.path / "folds.parquet", folds)
        looked = pd.concat([each.attention for each in found], ignore_index=True)
        if len(looked):
            with whole_file(run.path / "attention.parquet") as partial:
                looked.to_parquet(partial, index=False)
        pd.concat([each.fits for each in found], ignore_index=True).to_csv(run.path / "fits.csv", index=False)
        results.write_tables(run.path / "tables")
        content = {
            **results.content,
            "bag": bag,
            "seeds": list(seeds),
            "bags": {name: int((first.labels == name).sum()) for name in first.classes},
            "cells": {"all": len(first.of), "least": int(sizes.min()), "most": int(sizes.max())},
            "linked": int(len(first.linked) - len(np.unique(first.linked))),
            **describe_encoders({name: each.features for name, each in bags.items()}, pretrain),
        }
        run.finish(content)
    return content
