from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.bags.bags import Bags, bags_of
from leukoscope.bags.crossval import HEADS, BagSettings, CrossValidatedBags, cross_validate_bags
from leukoscope.bags.curve import Curve, check_curve, learning_curve, summarise_curve
from leukoscope.bags.few import few_patients
from leukoscope.bags.folds import bag_folds, parted_patients
from leukoscope.bags.reading import (
    attention_by_kind,
    records,
    relative_attention,
    summarise_removal,
    summarise_stability,
)
from leukoscope.cells import folds as folds_file
from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.common.files import whole_file
from leukoscope.common.runs import RunFolder, log, run_folder
from leukoscope.encoders.features import Features
from leukoscope.probes.evaluated import Fold, align, of_fold
from leukoscope.probes.origin import describe_encoders
from leukoscope.scores import predictions as predictions_file
from leukoscope.scores.metrics import score
from leukoscope.scores.predictions import BLOCK, blocks_of
from leukoscope.scores.results import score_predictions
from leukoscope.scores.summary import number_or_none


def mil(
    features: Mapping[str, Features],
    out: Path,
    *,
    bag: str = "patient",
    label: str = "label",
    group: str | None = None,
    kind: str | None = None,
    suspect: Sequence[str] = (),
    heads: Sequence[str] = HEADS,
    n_folds: int = 5,
    seeds: Sequence[int] = (0, 1, 2),
    settings: BagSettings | None = None,
    folds: pd.DataFrame | None = None,
    inside: Mapping[str, Mapping[Fold, Features]] | None = None,
    curve: Curve | None = None,
    pretrain: Sequence[CellSet] = (),
    task: str = "",
    n_bootstrap: int = 1000,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Judge patients by their cells: cross-validate models of bags on frozen features, patients kept whole.

    Folds are stratified over patients; those that share an image stay together. Of a training fold a quarter of the
    patients tells when to stop; the test patients are judged once. docs/bags.md lists what ``out`` holds.

    Args:
        features: by the encoder's name, of the same cells.
        out: the run folder.
        bag: the column that names a cell's patient.
        label: the column of the patient's class.
        group: a column whose bags may not be parted, see :func:`~leukoscope.bags.bags.bags_of`.
        kind: a column that names the kind of a cell where it is known, to read attention by; models do not see it.
        suspect: kinds, such as the malignant ones, that attention is expected on.
        heads: names of :data:`~leukoscope.bags.registry.MODELS` and :data:`~leukoscope.bags.baselines.BASELINES`.
        n_folds: folds over patients.
        seeds: each model is trained anew for each.
        settings: see :class:`~leukoscope.bags.crossval.BagSettings`.
        folds: of :func:`~leukoscope.bags.folds.bag_folds`, made before; ``n_folds`` then says nothing.
        inside: by the name of an encoder that was pre-trained inside each training fold, its features of all cells by
            (repeat, fold).
        curve: also train on fewer patients: ``tables/learning_curve.csv``, a row a draw and fold.
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
    inside = inside or {}
    every = {**features, **{of_fold(name, fold): f for name, own in inside.items() for fold, f in own.items()}}
    for name, each in every.items():
        each.require_finite(name)
    bags = {name: bags_of(each, bag=bag, label=label, group=group, kind=kind) for name, each in align(every).items()}
    first = next(iter(bags.values()))
    refuse_unknown(suspect, first)
    if folds is None:
        folds = bag_folds(first, n_folds=n_folds, seed=seed)
    recipe = {
        "encoders": [*features, *inside],
        "bag": bag,
        "label": label,
        "group": group,
        "kind": kind,
        "suspect": list(suspect),
        "heads": list(heads),
        "n_folds": int(folds["fold"].nunique()),
        "seeds": list(seeds),
        "task": task,
        "n_bootstrap": n_bootstrap,
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "curve": None if curve is None else curve.model_dump(mode="json"),
    }
    if curve is not None:
        check_curve(first, folds, curve, heads, settings, seed)
    with run_folder(out, verb="mil", settings=recipe, seed=seed, overwrite=overwrite) as run:
        sizes = first.sizes
        log.info("%d bags of %d to %d cells, %d classes", len(sizes), sizes.min(), sizes.max(), len(first.classes))
        warnings = [*parted_patients(first, folds, bag), *few_patients(first, folds, settings.validation_share)]
        for warning in warnings:
            log.info("%s", warning)
        parts = {name: (name, folds) for name in features}
        for name, own in inside.items():
            parts |= {of_fold(name, fold): (name, folds[folds["fold"] == fold[1]]) for fold in own}
        found = [
            cross_validate_bags(bags[key], part, heads=heads, encoder=name, seeds=seeds, settings=settings)
            for key, (name, part) in parts.items()
        ]
        curves = [
            learning_curve(bags[key], part, curve, heads=heads, encoder=name, seed=seed, settings=settings)
            for key, (name, part) in parts.items()
            if curve is not None
        ]
        table = pd.concat([each.predictions for each in found], ignore_index=True)
        results = score_predictions(table, folds, task=task, n_bootstrap=n_bootstrap, seed=seed)
        if results.content["intervals"]["resampled"] == "cells":
            results.content["intervals"]["resampled"] = "patients"
        predictions_file.write(run.path / "predictions.parquet", table)
        folds_file.write(run.path / "folds.parquet", folds)
        results.write_tables(run.path / "tables")
        runs = _runs(table)
        runs.to_csv(run.path / "tables" / "runs.csv", index=False)
        content = {
            **results.content,
            "runs": _spread_of(runs),
            "bag": bag,
            "seeds": list(seeds),
            "bags": {name: int((first.labels == name).sum()) for name in first.classes},
            "cells": {"all": len(first.of), "least": int(sizes.min()), "most": int(sizes.max())},
            "linked": int(len(first.linked) - len(np.unique(first.linked))),
            "warnings": warnings,
            "learning_curve": _write_curve(run, curves),
            "reading": _read_attention(run, found, first, suspect),
            **describe_encoders({name: bags[name].features for name in features}, pretrain, taught=inside),
        }
        run.finish(content)
    return content


def refuse_unknown(suspect: Sequence[str], bags: Bags) -> None:
    """Nothing, where every kind of ``suspect`` is that of some cell.

    Raises:
        InputError: naming the first that is not.
    """
    known = sorted({kind for kind in (bags.kinds if bags.kinds is not None else ()) if kind is not None})
    for name in suspect:
        if name not in known:
            raise InputError(f"--suspect {name}: no cell is of that kind; --kind gives {', '.join(known) or 'none'}")


def _write_curve(run: RunFolder, curves: Sequence[pd.DataFrame]) -> list[dict[Hashable, Any]]:
    if not curves:
        return []
    table = pd.concat(curves, ignore_index=True)
    table.to_csv(run.path / "tables" / "learning_curve.csv", index=False)
    return records(summarise_curve(table))


def _runs(table: pd.DataFrame) -> pd.DataFrame:
    """Every metric of every fold and seed by itself: the papers give mean and standard deviation over these."""
    return pd.DataFrame([dict(zip(BLOCK, key, strict=True)) | score(block) for key, block in blocks_of(table, BLOCK)])


def _spread_of(runs: pd.DataFrame) -> dict[str, Any]:
    """Mean and standard deviation (n - 1) of the runs of every encoder and model, by metric."""
    found: dict[str, Any] = {}
    for (encoder, head), own in runs.groupby(["encoder", "head"], sort=False):
        values = own.drop(columns=list(BLOCK))
        found.setdefault(str(encoder), {})[str(head)] = {
            name: {
                "mean": number_or_none(values[name].mean()),
                "sd": number_or_none(values[name].std()),
                "runs": len(values),
            }
            for name in values
        }
    return found


def _read_attention(
    run: RunFolder, found: Sequence[CrossValidatedBags], bags: Bags, suspect: Sequence[str]
) -> dict[str, Any]:
    """Write what can be read from attention; the summaries are what ``results.json`` says of it."""
    pd.concat([each.fits for each in found], ignore_index=True).to_csv(run.path / "fits.csv", index=False)
    attention = pd.concat([each.attention for each in found], ignore_index=True)
    if attention.empty:
        return {}
    with whole_file(run.path / "attention.parquet") as partial:
        attention.to_parquet(partial, index=False)
    summaries = {
        "removal": summarise_removal(pd.concat([each.removal for each in found], ignore_index=True)),
        "stability": summarise_stability(pd.concat([each.stability for each in found], ignore_index=True)),
    }
    if bags.kinds is not None:
        labels = pd.Series(bags.labels, index=bags.names)
        summaries["kinds"] = attention_by_kind(relative_attention(attention, labels), suspect)
    for name, summary in summaries.items():
        summary.to_csv(run.path / "tables" / f"attention_{name}.csv", index=False)
    return {name: records(summary) for name, summary in summaries.items()}
