from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from leukoscope.cells import folds as folds_file
from leukoscope.cells.cellset import CellSet
from leukoscope.cells.groups import resolve_group
from leukoscope.cells.labels import Labels, labels_of
from leukoscope.common.files import refuse_folder
from leukoscope.common.runs import RunFolder, log, run_folder, run_mark
from leukoscope.differential.finetuned import classifier_of
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import check_fits
from leukoscope.probes.evaluated import with_group
from leukoscope.probes.finetuning import FineTuned, fine_tune
from leukoscope.probes.origin import describe_encoders, told_of
from leukoscope.probes.parts import Parts, parts_of
from leukoscope.probes.presets import DEFAULT, stage_settings
from leukoscope.probes.stages import StageSettings
from leukoscope.scores import predictions as predictions_file
from leukoscope.scores.drop import drop, part_scores
from leukoscope.scores.results import group_of, score_predictions


def finetune(
    cellset: CellSet,
    encoder: Encoder,
    out: Path,
    *,
    settings: StageSettings | None = None,
    name: str = "finetune",
    label: str = "label",
    overlay: Labels | None = None,
    group: str | None = None,
    split: str | None = None,
    test_share: float = 0.2,
    pretrain: Sequence[CellSet] = (),
    n_bootstrap: int = 1000,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Fine-tune an encoder on labelled cells, test it once on cells held out, and keep it with its head.

    ``out`` becomes a run folder: ``encoder/`` and ``classifier/`` (what ``classify`` takes), ``predictions.parquet`` of
    the test cells, ``predictions-train.parquet``, ``predictions-validation.parquet``, ``folds.parquet`` (which cell was
    for what), ``history.csv``, ``tables/``, ``results.json``. It is written whole or not at all: a run cut off begins
    anew.

    Args:
        cellset: the cells; those without a label take no part.
        encoder: where training starts; it is not changed.
        out: the run folder.
        settings: the stages; None takes the preset ``two-step``.
        name: under which the predictions stand.
        label: the column that holds the class.
        overlay: labels laid over the table instead.
        group: a column whose cells stay in one part and are resampled together; None takes ``patient`` or else
            ``slide`` where the table has it, ``"none"`` groups nothing.
        split: the column that says train, val or test; see :func:`~leukoscope.probes.parts.parts_of`.
        test_share: of the cells, where no column says which to test on.
        pretrain: the CellSets that the encoder was pre-trained on, searched for test cells.
        n_bootstrap: resamples of the intervals.
        overwrite: replace what ``out`` holds.

    Returns:
        What ``results.json`` holds, less the provenance: an evaluation's results on the test cells, and ``parts``,
        ``drop``, ``selection``.

    Raises:
        InputError: when encoder, cells, labels or settings do not fit each other, or ``out`` exists.
        CheckFailed: when training diverges.
    """
    settings = settings or stage_settings(DEFAULT, {}, "settings")
    refuse_folder(out, run_mark("finetune"), overwrite=overwrite)
    check_fits(encoder, cellset)
    labels = labels_of(cellset, column=label, overlay=overlay)
    group = resolve_group(cellset.cells, group)
    parts = parts_of(
        cellset,
        labels,
        column=split,
        group=group,
        test_share=test_share,
        inner_share=settings.inner_share,
        max_per_class=settings.max_per_class,
        seed=settings.seed,
    )
    recipe = {
        "name": name,
        "label": label if overlay is None else "labels file",
        "group": group,
        "parts": parts.origin,
        "n_bootstrap": n_bootstrap,
        **settings.model_dump(mode="json"),
    }
    with run_folder(out, verb="finetune", settings=recipe, seed=settings.seed, overwrite=overwrite) as run:
        run.fingerprint("pixels", cellset.pixels_fingerprint)
        run.fingerprint("started_from", encoder.fingerprint)
        tuned = fine_tune(cellset, labels, encoder, parts, settings, name=name)
        folds = _folds(cellset, parts, group)
        tuned.encoder.save(run.path / "encoder")
        seen = cellset.select(parts.training)
        classifier_of(tuned, seen, cells=cellset.cells, group=group, seed=settings.seed).save(run.path / "classifier")
        test = cellset.select(parts.rows["test"])
        known = describe_encoders({name: told_of(test, encoder)}, [*_selections(cellset), *pretrain])
        results = {**_results(run, tuned, folds, n_bootstrap=n_bootstrap), "group": group, **known}
        run.finish(results)
    log.info("fine-tuned %s: %s", out, tuned.plan)
    return results


def _folds(cellset: CellSet, parts: Parts, group: str | None) -> pd.DataFrame:
    """The parts as a single fold, which heads on frozen features can be evaluated on, too; ``part`` says more."""
    tables = [
        pd.DataFrame({"cell_id": cellset.ids[rows], "role": "test" if part == "test" else "train", "part": part})
        for part, rows in parts.rows.items()
    ]
    folds = pd.concat(tables, ignore_index=True).assign(repeat=0, fold=0)
    return folds if group is None else with_group(folds, cellset.cells, group)


def _selections(cellset: CellSet) -> list[CellSet]:
    """The set and its parts by the column ``split``: what an encoder may have been pre-trained on before."""
    if "split" not in cellset.cells.columns:
        return [cellset]
    return [cellset, *(cellset.where(f"split={value}") for value in cellset.cells["split"].dropna().unique())]


def _results(run: RunFolder, tuned: FineTuned, folds: pd.DataFrame, *, n_bootstrap: int) -> dict[str, Any]:
    """Write the tables of the run, and return what they come to."""
    seed = int(tuned.predictions["test"]["seed"].iloc[0])
    results = score_predictions(tuned.predictions["test"], folds, n_bootstrap=n_bootstrap, seed=seed)
    parts = part_scores(tuned.predictions, groups=group_of(folds), n_bootstrap=n_bootstrap, seed=seed)
    for part, table in tuned.predictions.items():
        stem = "predictions" if part == "test" else f"predictions-{part}"
        predictions_file.write(run.path / f"{stem}.parquet", table)
    folds_file.write(run.path / "folds.parquet", folds)
    pd.DataFrame(tuned.history).to_csv(run.path / "history.csv", index=False)
    results.write_tables(run.path / "tables")
    return {
        **results.content,
        "seeds": [seed],
        "parts": parts,
        "drop": {f"{before}_to_test": drop(parts, before) for before in ("train", "validation")},
        "selection": {
            "rates": list(tuned.plan.rates),
            "epochs": list(tuned.plan.epochs),
            "tried": tuned.tried,
        },
    }
