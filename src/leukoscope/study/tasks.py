from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.folds import make_folds
from leukoscope.cells.labels import Labels
from leukoscope.common.files import whole_file
from leukoscope.common.runs import log
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.features import Features
from leukoscope.probes.evaluated import resolve_group, with_group
from leukoscope.probes.supervised import SupervisedSettings, cross_validate_images
from leukoscope.scores import predictions
from leukoscope.study.workspace import Workspace


def embed_task(
    space: Workspace, name: str, cellset: CellSet, bundles: Mapping[str, Mapping[str, Path]]
) -> dict[str, Features]:
    """Features of a task's cells by every encoder, each trial of a sweep named ``encoder:trial``."""
    task = space.recipe.tasks[name]
    found = {}
    for encoder_name, encoder_trials in bundles.items():
        for trial, bundle in encoder_trials.items():
            key = f"{encoder_name}:{trial}" if trial else encoder_name
            path = space.features_path(name, key)
            if not path.exists():
                log.info("task %s: embed by %s", name, key)
                embed(cellset, Encoder.load(bundle), path, device=space.recipe.device, readout=task.embed)
            found[key] = Features.read(path)
    return found


def task_folds(space: Workspace, name: str, cellset: CellSet, labels: Labels) -> pd.DataFrame:
    """The folds of a task, made once and shared by every encoder, head and baseline; grouped as in ``evaluate``."""
    task = space.recipe.tasks[name]
    cells, known = cellset.cells, labels.of(cellset.ids)
    group = resolve_group(cells, task.group)
    folds = make_folds(cells, known, n_folds=task.folds, repeats=task.repeats, group=group, seed=space.recipe.seed)
    return folds if group is None else with_group(folds, cells, group)


def supervised_baselines(
    space: Workspace, name: str, cellset: CellSet, labels: Labels, folds: pd.DataFrame
) -> pd.DataFrame | None:
    """Predictions of the networks trained from scratch on the same folds; None where the task asks for none."""
    tables = []
    for model, values in space.recipe.tasks[name].supervised.items():
        path = space.out / "supervised" / name / f"{model}.parquet"
        if not path.exists():
            log.info("task %s: supervised %s", name, model)
            where = f"{space.recipe.name}: tasks.{name}.supervised.{model}"
            table = cross_validate_images(
                cellset,
                labels.of(cellset.ids),
                folds,
                model=model,
                settings=SupervisedSettings.parse(values, where),
                seed=space.recipe.seed,
                device=space.recipe.device,
            )
            with whole_file(path) as partial:
                predictions.write(partial, table)
        tables.append(predictions.read(path))
    return pd.concat(tables, ignore_index=True) if tables else None
