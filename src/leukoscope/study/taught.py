"""Encoders of methods that use labels: pre-trained anew inside every training fold, so that no test label is seen."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.labels import Labels
from leukoscope.common.errors import InputError
from leukoscope.common.runs import log
from leukoscope.encoders.features import Features
from leukoscope.methods.pretrain import pretrain
from leukoscope.methods.registry import entry
from leukoscope.study.encoders import settings_of
from leukoscope.study.recipe import EncoderPlan, Task, overlap
from leukoscope.study.tasks import embedded
from leukoscope.study.workspace import Workspace


def taught_inside(space: Workspace, name: str) -> bool:
    """Whether encoder ``name`` learns from labels of cells that some task evaluates.

    One that learns from labels of other cells is pre-trained once, as methods without labels are.
    """
    plan = space.recipe.encoders[name]
    return uses_labels(plan) and any(_of_task(plan, task) for task in space.recipe.tasks.values())


def uses_labels(plan: EncoderPlan) -> bool:
    """Whether the method of ``plan`` uses labels."""
    return plan.pretrain is not None and entry(plan.pretrain.get("method", "moco")).method.uses_labels


def check_taught(space: Workspace) -> None:
    """Refuse what cannot be carried out inside folds.

    Raises:
        InputError: one line naming the key at fault.
    """
    for name, plan in space.recipe.encoders.items():
        if not taught_inside(space, name):
            continue
        where = f"{space.recipe.name}: encoders.{name}"
        if plan.several:
            raise InputError(
                f"{where}: it is taught inside every training fold; a sweep or keep_every there is not supported"
            )
        for sample_name, sample in space.recipe.samples.items():
            if sample.encoder == name:
                raise InputError(f"{space.recipe.name}: samples.{sample_name}: {name} is another encoder in each fold")


def teach_inside(
    space: Workspace, task_name: str, cellset: CellSet, labels: Labels, folds: pd.DataFrame
) -> dict[str, dict[tuple[int, int], Features]]:
    """Features of a task's cells by the encoders that learn from its labels: by name, then by (repeat, fold)."""
    task = space.recipe.tasks[task_name]
    found = {}
    for name, plan in space.recipe.encoders.items():
        if not taught_inside(space, name):
            continue
        if not _of_task(plan, task):
            log.info("task %s: %s learns from the labels of another task, and is left out", task_name, name)
            continue
        allowed = {cell for reference in plan.cells for cell in space.cells(reference).ids}
        found[name] = {
            fold: _teach(space, task_name, name, cellset, labels, fold, training & allowed)
            for fold, training in _training(folds)
        }
    return found


def _teach(
    space: Workspace,
    task_name: str,
    name: str,
    cellset: CellSet,
    labels: Labels,
    fold: tuple[int, int],
    training: set[str],
) -> Features:
    task, run = space.recipe.tasks[task_name], taught_path(space, name, task_name, fold)
    key = f"{name}-r{fold[0]}f{fold[1]}"
    if not space.features_path(task_name, key).exists():
        log.info("task %s: teach %s inside repeat %d, fold %d", task_name, name, *fold)
        (settings,) = settings_of(space, name).values()
        own = cellset.select(np.isin(cellset.ids, list(training)))
        pretrain([own], run, settings=settings, overlay=labels)
    return embedded(space, task_name, key, cellset, run / "encoder", readout=task.embed)


def taught_path(space: Workspace, name: str, task: str, fold: tuple[int, int]) -> Path:
    """The run folder of encoder ``name`` as it was taught inside a fold (repeat, fold) of a task."""
    return space.encoder_path(name, f"{task}-r{fold[0]}f{fold[1]}")


def taught_for(space: Workspace, name: str, task: str) -> bool:
    """Whether encoder ``name`` learns from cells of this very task."""
    return _of_task(space.recipe.encoders[name], space.recipe.tasks[task])


def _of_task(plan: EncoderPlan, task: Task) -> bool:
    return any(overlap(reference, task.cells) for reference in plan.cells)


def _training(folds: pd.DataFrame) -> Iterator[tuple[tuple[int, int], set[str]]]:
    """The cells of every training fold, by (repeat, fold)."""
    train = folds[folds["role"] == "train"]
    for repeat, fold in train[["repeat", "fold"]].drop_duplicates().itertuples(index=False):
        rows = train[(train["repeat"] == repeat) & (train["fold"] == fold)]
        yield (int(repeat), int(fold)), set(rows["cell_id"])
