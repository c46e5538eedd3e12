"""Encoders of the recipe that a task trains on, in its folds, as baselines beside the frozen ones."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.labels import Labels
from leukoscope.common.errors import InputError
from leukoscope.common.files import whole_file
from leukoscope.common.runs import log
from leukoscope.encoders.baselines import is_baseline, open_encoder
from leukoscope.encoders.bundle import Encoder
from leukoscope.probes.evaluated import Fold
from leukoscope.probes.finetune_folds import FinetunePlan, cross_validate_finetuned
from leukoscope.scores import predictions
from leukoscope.scores.significance import SUPERVISED
from leukoscope.study.encoders import largest_rankme
from leukoscope.study.taught import taught_for, taught_inside, taught_path
from leukoscope.study.workspace import Workspace


def finetune_plans(space: Workspace, task: str) -> dict[str, FinetunePlan]:
    """What a task fine-tunes, by name, on the recipe's seed and device where it names none.

    Raises:
        InputError: one line naming the key at fault.
    """
    found = {}
    plan_few = space.recipe.tasks[task].few_labels
    few = plan_few.finetune if plan_few else ()
    for name, values in space.recipe.tasks[task].finetune.items():
        where = f"{space.recipe.name}: tasks.{task}.finetune.{name}"
        plan = FinetunePlan.of(values, where, seed=space.recipe.seed, device=space.recipe.device)
        _check_encoder(space, task, plan, where)
        if name in few and plan.encoder in space.recipe.encoders and taught_inside(space, plan.encoder):
            raise InputError(f"{where}: {plan.encoder} has learned from all labels of a fold; few would tell nothing")
        if name == SUPERVISED:
            raise InputError(f"{where}: is what networks from scratch are called; choose another name")
        found[name] = plan
    return found


def finetuned(
    space: Workspace,
    task: str,
    cellset: CellSet,
    labels: Labels,
    folds: pd.DataFrame,
    bundles: Mapping[str, Mapping[str, Path]],
    *,
    few: int | None = None,
) -> list[pd.DataFrame]:
    """Predictions of the encoders that the task fine-tunes in its folds, a table each.

    Encoders that are taught inside folds must have been taught: each fold starts from its own. With ``few``, folds
    hold so many training cells, and those encoders are taken that the task names for few labels.
    """
    plan_few = space.recipe.tasks[task].few_labels
    into = space.out / "finetuned" / task
    plans = finetune_plans(space, task)
    if few is not None:
        into /= f"few-{few}"
        plans = {name: plans[name] for name in (plan_few.finetune if plan_few else ())}
    tables = []
    for name, plan in plans.items():
        path = into / f"{name}.parquet"
        if not path.exists():
            log.info("task %s: fine-tune %s as %s", task, plan.encoder, path.relative_to(space.out))
            start = _start(space, task, plan, cellset, bundles)
            known = labels.of(cellset.ids)
            table = cross_validate_finetuned(cellset, known, folds, name=name, encoder=start, settings=plan.settings)
            with whole_file(path) as partial:
                predictions.write(partial, table)
        tables.append(predictions.read(path))
    return tables


def _check_encoder(space: Workspace, task: str, plan: FinetunePlan, where: str) -> None:
    known = space.recipe.encoders
    if plan.encoder not in known:
        if not is_baseline(plan.encoder):
            raise InputError(
                f"{where}: no encoder {plan.encoder!r}; choose from {', '.join(known)}, or random:NAME, imagenet:NAME"
            )
        return
    if plan.size is not None:
        raise InputError(f"{where}: size: {plan.encoder} brings its own; leave it out")
    if known[plan.encoder].several and known[plan.encoder].choose == "inner":
        raise InputError(f"{where}: {plan.encoder} is chosen anew in each fold; choose it by rankme")
    if taught_inside(space, plan.encoder) and not taught_for(space, plan.encoder, task):
        raise InputError(f"{where}: {plan.encoder} learns from the labels of another task")


def _start(
    space: Workspace, task: str, plan: FinetunePlan, cellset: CellSet, bundles: Mapping[str, Mapping[str, Path]]
) -> Callable[[Fold], Encoder]:
    """The encoder that each fold starts from."""
    if plan.encoder not in space.recipe.encoders:
        baseline = open_encoder(plan.encoder, cellset, size=plan.size, seed=plan.settings.seed)
        return lambda fold: baseline
    if taught_inside(space, plan.encoder):
        return lambda fold: Encoder.load(taught_path(space, plan.encoder, task, fold) / "encoder")
    trial, _ = largest_rankme(bundles[plan.encoder])
    bundle = Encoder.load(bundles[plan.encoder][trial])
    return lambda fold: bundle
