from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from leukoscope.cells import folds as folds_file
from leukoscope.cells.cellset import CellSet
from leukoscope.cells.few import FewLabels
from leukoscope.cells.labels import Labels
from leukoscope.common.errors import InputError
from leukoscope.common.runs import RunFolder, log, run_folder
from leukoscope.encoders.features import Features
from leukoscope.probes.choose import as_chosen, choose_encoders
from leukoscope.probes.crossval import ProbeSettings, cross_validate
from leukoscope.probes.evaluated import Evaluated, Fold, evaluated_cells, of_fold
from leukoscope.probes.few import FewLabelRun, TrainWhole, try_few_labels
from leukoscope.probes.finetune_folds import FinetunePlan
from leukoscope.probes.from_scratch import SupervisedSettings
from leukoscope.probes.origin import describe_encoders, told_of
from leukoscope.probes.trained_whole import on_few_cells, open_starts, trained_whole
from leukoscope.scores import predictions as predictions_file
from leukoscope.scores.class_groups import Groups, resolve_groups
from leukoscope.scores.few import few_label_scores, few_label_table
from leukoscope.scores.results import covers, score_predictions

HEADS = ("linear", "mlp", "knn")


def evaluate(
    features: Mapping[str, Features],
    out: Path,
    *,
    taught: Mapping[str, Mapping[Fold, Features]] | None = None,
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
    groups: Groups | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    settings: ProbeSettings | None = None,
    cellset: CellSet | None = None,
    supervised: Mapping[str, SupervisedSettings] | None = None,
    finetune: Mapping[str, FinetunePlan] | None = None,
    choose: Mapping[str, Sequence[str]] | None = None,
    few: FewLabels | None = None,
    few_whole: TrainWhole | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Compare frozen encoders: fit heads on their features in cross-validation, score what they say of held-out cells.

    ``out`` becomes a run folder: ``results.json``, ``predictions.parquet``, ``folds.parquet``, ``choices.csv`` and
    ``tried.csv`` (what was chosen inside the training folds), ``tables/``, ``provenance.json``. All encoders, heads and
    baselines are held to the same folds.

    Args:
        features: by the encoder's name; all of the same cells, in any order.
        out: the run folder.
        taught: by the name of an encoder that learned from labels inside each training fold, its features of these
            cells by (repeat, fold).
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
        groups: groups of classes, such as ``{"lymphoid": ["LYM", "CLL"], "other": "*"}``, that are scored as well: from
            sums of the probabilities of their classes.
        n_bootstrap: resamples of the intervals.
        seed: of folds and resamples.
        settings: of the heads, and the device.
        cellset: the images of the cells, for ``supervised`` and ``finetune``.
        supervised: networks to train from scratch in the same folds, by name, as baselines.
        finetune: by a name of their own, encoders to train on in the same folds.
        choose: by a new name the encoders (of ``features``) of which each training fold chooses one, by the linear
            probe in its inner folds; ``chosen.csv`` says which.
        few: also fit heads on few labelled cells of each training fold: ``few_labels/COUNT/``,
            ``tables/few_labels.csv``. Encoders taught inside folds, which have seen all labels there, take no part.
        few_whole: trains further networks on those cells; without it, those of ``finetune`` that ``few`` names.
        overwrite: replace what ``out`` holds.

    Returns:
        What ``results.json`` holds, less the provenance.

    Raises:
        InputError: when features, labels, folds, groups or baselines do not fit each other, or ``out`` exists.
    """
    taught = taught or {}
    every = {**features, **{of_fold(name, fold): f for name, folds_ in taught.items() for fold, f in folds_.items()}}
    cells = evaluated_cells(
        every, label=label, overlay=overlay, group=group, n_folds=n_folds, repeats=repeats, folds=folds, seed=seed
    )
    settings = settings or ProbeSettings()
    groups = resolve_groups(groups, cells.classes) if groups else None
    supervised, finetune = supervised or {}, finetune or {}
    if (supervised or finetune) and cellset is None:
        kind = "supervised" if supervised else "finetune"
        raise InputError(f"{kind} {', '.join(supervised or finetune)}: needs the images; give --cells SET")
    starts = open_starts(finetune, cellset) if cellset is not None else {}
    if few is not None and few_whole is None and few.finetune:
        few_whole = on_few_cells(few, cells, cellset, finetune, starts, device=settings.device)
    if extra_predictions is not None:
        covers(extra_predictions, cells.folds, where="extra_predictions")
    recipe = {
        "encoders": [*features, *taught],
        "label": label if overlay is None else "labels file",
        "group": cells.group,
        "heads": list(heads),
        "n_folds": int(cells.folds["fold"].nunique()),
        "repeats": int(cells.folds["repeat"].nunique()),
        "seeds": list(seeds),
        "task": task,
        "groups": groups,
        "n_bootstrap": n_bootstrap,
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "supervised": {name: each.model_dump(mode="json") for name, each in supervised.items()},
        "finetune": {
            name: {"encoder": plan.encoder, "size": plan.size, **plan.settings.model_dump(mode="json")}
            for name, plan in finetune.items()
        },
        "few_labels": few.model_dump(mode="json") if few else None,
    }
    with run_folder(out, verb="evaluate", settings=recipe, seed=seed, overwrite=overwrite) as run:
        grouped = f"grouped by {cells.group}" if cells.group else "not grouped"
        log.info("%d cells of %d classes, %s", len(cells.labels), len(cells.classes), grouped)
        own = {name: cells.features[name] for name in features}
        # First of all: counts that do not fit the folds should not be found out after hours.
        thinned = {}
        if few is not None:
            thinned = try_few_labels(
                own, cells.labels, cells.folds, few, settings=settings, seed=seed, train_whole=few_whole
            )
        tables = _heads(run, cells, taught, heads=heads, seeds=seeds, settings=settings, choose=choose or {})
        if cellset is not None:
            tables += trained_whole(cells, cellset, supervised, finetune, starts, seed=seeds[0], device=settings.device)
        if extra_predictions is not None:
            tables.append(extra_predictions)
        table = pd.concat(tables, ignore_index=True)
        results = score_predictions(table, cells.folds, task=task, groups=groups, n_bootstrap=n_bootstrap, seed=seed)
        predictions_file.write(run.path / "predictions.parquet", table)
        folds_file.write(run.path / "folds.parquet", cells.folds)
        results.write_tables(run.path / "tables")
        began = {name: told_of(cells.of(cellset), start) for name, start in starts.items() if cellset is not None}
        origin = describe_encoders({**began, **own}, pretrain, taught=taught)
        content = {**results.content, "group": cells.group, "seeds": list(seeds), **origin}
        if few is not None:
            content["few_labels"] = _write_few_labels(run, thinned, per_class=few.per_class)
        run.finish(content)
    return content


def _heads(
    run: RunFolder,
    cells: Evaluated,
    taught: Mapping[str, Mapping[Fold, Features]],
    *,
    heads: Sequence[str],
    seeds: Sequence[int],
    settings: ProbeSettings,
    choose: Mapping[str, Sequence[str]],
) -> list[pd.DataFrame]:
    """Cross-validate the heads on every encoder's features; what was chosen and tried goes into the run folder."""
    # The features that stand for an encoder in a fold: of one that was taught inside folds, those of that fold.
    inside = {of_fold(name, fold): (name, fold) for name, by_fold in taught.items() for fold in by_fold}
    found = []
    for key, each in cells.features.items():
        name, fold = inside.get(key, (key, None))
        folds = cells.folds if fold is None else _one(cells.folds, fold)
        found.append(
            cross_validate(each, cells.labels, folds, heads=heads, encoder=name, seeds=seeds, settings=settings)
        )
        for kind in ("encoder_fingerprint", "pixels_fingerprint", "table_fingerprint"):
            if kind in each.uns:
                run.fingerprint(f"{key}.{kind.removesuffix('_fingerprint')}", str(each.uns[kind]))
    tried = pd.concat([each.tried for each in found])
    pd.concat([each.choices for each in found]).to_csv(run.path / "choices.csv", index=False)
    tried.to_csv(run.path / "tried.csv", index=False)
    tables = [each.predictions for each in found]
    chosen = {name: choose_encoders(tried, candidates) for name, candidates in choose.items()}
    if chosen:
        pd.concat([table.assign(name=name) for name, table in chosen.items()]).to_csv(
            run.path / "chosen.csv", index=False
        )
    return tables + [as_chosen(pd.concat(tables), table, name) for name, table in chosen.items()]


def _write_few_labels(run: RunFolder, found: Mapping[int, FewLabelRun], *, per_class: bool) -> dict[str, Any]:
    """Predictions and folds of each count in a folder of its own, and all scores; returns these."""
    for count, each in found.items():
        folder = run.path / "few_labels" / str(count)
        folder.mkdir(parents=True)
        predictions_file.write(folder / "predictions.parquet", each.predictions)
        folds_file.write(folder / "folds.parquet", each.folds)
    content = few_label_scores({count: each.predictions for count, each in found.items()}, per_class=per_class)
    few_label_table(content).to_csv(run.path / "tables" / "few_labels.csv", index=False)
    return content


def _one(folds: pd.DataFrame, fold: Fold) -> pd.DataFrame:
    return folds[(folds["repeat"] == fold[0]) & (folds["fold"] == fold[1])]
