from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.common.files import read_json
from leukoscope.common.runs import log
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.features import Features
from leukoscope.encoders.remedies import Recolour, reestimate_batch_norm
from leukoscope.probes.shift import shift
from leukoscope.report.shifted_page import write_shift_report
from leukoscope.study.recipe import Task
from leukoscope.study.tasks import feature_name, kept_features, probe_settings, task_folds
from leukoscope.study.workspace import Workspace


def carry_over(space: Workspace, name: str, bundles: Mapping[str, Mapping[str, Path]]) -> dict[str, Any]:
    """The heads of a task on cells of another origin, by every encoder that is the same in all folds."""
    out = space.out / "shifts" / name
    if not (out / "results.json").exists():
        _carry_over(space, name, bundles)
    if not (out / "report.html").exists():
        write_shift_report(out, title=f"{space.recipe.title}: {name}")
    return read_json(out / "results.json")


def _carry_over(space: Workspace, name: str, bundles: Mapping[str, Mapping[str, Path]]) -> None:
    plan = space.recipe.shifts[name]
    task = space.recipe.tasks[plan.task]
    cellset, labels = space.annotated(task)
    strangers, truth = space.annotated(Task(cells=plan.cells, label=plan.label, merge=plan.merge))
    known, new = {}, {}
    for encoder, trials in bundles.items():
        for trial, bundle in trials.items():
            key = feature_name(encoder, trial)
            known[key] = Features.read(space.features_path(plan.task, key))
            new[key] = _features(space, name, key, Encoder.load(bundle), cellset, strangers)
    shift(
        known,
        new,
        space.out / "shifts" / name,
        overlays=(labels, truth),
        classes=plan.classes,
        groups=(task.group, plan.group),
        heads=plan.heads,
        folds=task_folds(space, plan.task, cellset, labels),
        settings=probe_settings(space, plan.task),
        task=name,
        seed=space.recipe.seed,
    )


def _features(
    space: Workspace, name: str, key: str, encoder: Encoder, known: CellSet, new: CellSet
) -> dict[str, Features]:
    """Features of the new cells as they come, and by every remedy that the encoder takes."""
    plan = space.recipe.shifts[name]
    readout, device = space.recipe.tasks[plan.task].embed, space.recipe.device
    found = {}
    for remedy in ("", *plan.remedies):
        path = space.features_path(f"shift-{name}", f"{key}+{remedy}" if remedy else key)
        if not path.exists():
            log.info("shift %s: embed by %s %s", name, key, remedy)
            try:
                adapted = reestimate_batch_norm(encoder, new, device=device) if remedy == "batch-norm" else encoder
            except InputError as error:
                log.info("shift %s: %s", name, error)
                continue
            recolour = Recolour.between(new, known) if remedy == "colour" else None
            embed(new, adapted, path, device=device, readout=readout, recolour=recolour)
        found[remedy] = kept_features(path, new)
    return found
