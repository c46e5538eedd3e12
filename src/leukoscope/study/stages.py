import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from leukoscope.cells.audit import AuditReport
from leukoscope.cells.cellset import CellSet
from leukoscope.common.files import read_json
from leukoscope.common.runs import log
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.features import Features
from leukoscope.probes.evaluate import evaluate
from leukoscope.report.page import write_report
from leukoscope.study.check import check_plan
from leukoscope.study.cohorts import judge_patients
from leukoscope.study.encoders import largest_rankme, make_encoders
from leukoscope.study.finetuned import finetuned
from leukoscope.study.prepare import check_leaks, make_sets
from leukoscope.study.samples import classify_sample
from leukoscope.study.shifts import carry_over
from leukoscope.study.tasks import embed_task, feature_name, probe_settings, supervised_baselines, task_folds
from leukoscope.study.taught import taught_inside, teach_inside
from leukoscope.study.workspace import Workspace
from leukoscope.training.history import histories


def carry_out(space: Workspace, *, allow_leaks: bool, jobs: int) -> dict[str, Any]:
    """Carry out every stage of a study; what is whole already is taken as it is."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "cells"):
        make_sets(space, jobs=jobs)
        check_plan(space)
        report = check_leaks(space, allow=allow_leaks)
    with _timed(seconds, "encoders"):
        once = [
            name for name in space.recipe.encoders if not taught_inside(space, name) and name not in space.recipe.inside
        ]
        bundles = make_encoders(space, once)
    tasks = {}
    for name in space.recipe.tasks:
        with _timed(seconds, f"task {name}"):
            tasks[name] = _evaluate(space, name, bundles, report)
    cohorts = {}
    for name in space.recipe.cohorts:
        with _timed(seconds, f"cohort {name}"):
            cohorts[name] = judge_patients(space, name, bundles)
    shifts = {}
    for name in space.recipe.shifts:
        with _timed(seconds, f"shift {name}"):
            shifts[name] = carry_over(space, name, bundles)
    samples = {}
    for name in space.recipe.samples:
        with _timed(seconds, f"sample {name}"):
            samples[name] = classify_sample(space, name, bundles[space.recipe.samples[name].encoder])
    return {
        "recipe": space.recipe.name,
        "tasks": tasks,
        "cohorts": cohorts,
        "shifts": shifts,
        "samples": samples,
        "sweeps": _sweeps(space, bundles),
        "seconds": {stage: round(taken, 1) for stage, taken in seconds.items()},
    }


def _evaluate(
    space: Workspace, name: str, bundles: Mapping[str, Mapping[str, Path]], audit: AuditReport
) -> dict[str, Any]:
    task, out = space.recipe.tasks[name], space.task_path(name)
    cellset, labels = space.annotated(task)
    features = embed_task(space, name, cellset, bundles)
    if not (out / "results.json").exists():
        folds = task_folds(space, name, cellset, labels)
        taught = teach_inside(space, name, cellset, labels, folds)
        tune = partial(finetuned, space, name, cellset, labels, bundles=bundles)
        known = [*supervised_baselines(space, name, cellset, labels, folds), *tune(folds)]
        evaluate(
            features,
            out,
            taught=taught,
            overlay=labels,
            group=task.group,
            heads=task.heads,
            seeds=task.seeds,
            folds=folds,
            extra_predictions=pd.concat(known, ignore_index=True) if known else None,
            pretrain=[space.cells(c) for plan in space.recipe.encoders.values() if plan.pretrain for c in plan.cells],
            task=name,
            groups=task.groups,
            seed=space.recipe.seed,
            settings=probe_settings(space, name),
            few=task.few_labels,
            few_whole=lambda count, drawn: tune(drawn, few=count),
            choose={
                f"{encoder} (chosen)": [feature_name(encoder, trial) for trial in trials]
                for encoder, trials in bundles.items()
                if len(trials) > 1 and space.recipe.encoders[encoder].choose == "inner"
            },
        )
    if not (out / "report.html").exists():
        _report(space, name, cellset, features, bundles, audit)
    return read_json(out / "results.json")


def _report(
    space: Workspace,
    name: str,
    cellset: CellSet,
    features: Mapping[str, Features],
    bundles: Mapping[str, Mapping[str, Path]],
    audit: AuditReport,
) -> None:
    encoders = {
        feature_name(encoder, trial): bundle for encoder, trials in bundles.items() for trial, bundle in trials.items()
    }
    write_report(
        space.task_path(name),
        cellset=cellset,
        features=features,
        encoders={key: Encoder.load(bundle) for key, bundle in encoders.items()},
        history=histories(encoders),
        audit=audit.as_dict(),
        title=f"{space.recipe.title}: {name}",
        seed=space.recipe.seed,
    )


def _sweeps(space: Workspace, bundles: Mapping[str, Mapping[str, Path]]) -> dict[str, Any]:
    """Which trial of each sweep won, by what score; ``tasks/TASK/chosen.csv`` has the choices of inner folds."""
    found = {}
    for name, trials in bundles.items():
        if len(trials) > 1:
            best, scores = largest_rankme(trials)
            by = space.recipe.encoders[name].choose
            found[name] = {"score": by, "chosen": best if by == "rankme" else "by fold", "rankme": scores}
    return found


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - start
    log.info("%s: %.0f s", stage, seconds[stage])
