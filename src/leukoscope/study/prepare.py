from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.cells.audit import AuditReport, audit
from leukoscope.cells.cellset import CellSet
from leukoscope.cells.cohort import CohortSettings, cohort
from leukoscope.cells.datasets.catalogue import find
from leukoscope.cells.datasets.pack import pack_dataset
from leukoscope.cells.folds import split
from leukoscope.cells.groups import resolve_group
from leukoscope.cells.labels import labels_of
from leukoscope.cells.pack import pack
from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.simulate import SimulateSettings, simulate
from leukoscope.cells.spoil import SpoilSettings, spoil
from leukoscope.common.errors import CheckFailed
from leukoscope.common.files import whole_file, write_json
from leukoscope.common.runs import log
from leukoscope.study.recipe import CellSource
from leukoscope.study.taught import taught_inside
from leukoscope.study.workspace import Workspace


def make_sets(space: Workspace, *, jobs: int = 0) -> None:
    """Make or open every set of the recipe, and split those that are split; what is whole stays."""
    # Some sets are made of others, and their source may be a part: they come last.
    for name, source in sorted(space.recipe.sets.items(), key=lambda item: item[1].made_of is not None):
        path = space.set_path(name)
        if not path.exists() and source.pack is not None:
            settings = {key: value for key, value in source.pack.items() if key != "source"}
            where = f"{space.recipe.name}: sets.{name}.pack"
            pack(Path(source.pack["source"]), path, settings=PackSettings.parse(settings, where), jobs=jobs)
        elif not path.exists() and source.dataset is not None:
            _pack_published(source.dataset, path, where=f"{space.recipe.name}: sets.{name}.dataset", jobs=jobs)
        elif not path.exists() and source.simulate is not None:
            where = f"{space.recipe.name}: sets.{name}.simulate"
            simulate(path, **SimulateSettings.parse(source.simulate, where).model_dump(), jobs=jobs)
        elif not path.exists() and source.spoil is not None:
            settings = {key: value for key, value in source.spoil.items() if key != "source"}
            asked = SpoilSettings.parse(settings, f"{space.recipe.name}: sets.{name}.spoil")
            spoil(space.cells(source.spoil["source"]), path, **asked.model_dump(), jobs=jobs)
        elif not path.exists() and source.cohort is not None:
            settings = {key: value for key, value in source.cohort.items() if key != "source"}
            planned = CohortSettings.parse(settings, f"{space.recipe.name}: sets.{name}.cohort")
            cohort(space.cells(source.cohort["source"]), path, **planned.model_dump())
        cellset = CellSet.open(path)
        log.info("set %s: %d cells, pixels %s", name, len(cellset), cellset.pixels_fingerprint[:12])
        if source.split and not space.split_path(name).exists():
            _write_split(space.split_path(name), cellset, source, seed=space.recipe.seed)


def _pack_published(dataset: Mapping[str, Any], path: Path, *, where: str, jobs: int) -> None:
    given = {key: value for key, value in dataset.items() if key not in ("name", "from")}
    entry = find(str(dataset["name"]), where)
    report = pack_dataset(entry, Path(dataset["from"]), path, given=given, where=where, jobs=jobs)
    for line in report.lines():
        log.info("%s: %s", where, line)


def check_leaks(space: Workspace, *, allow: bool) -> AuditReport:
    """Audit what is evaluated against what encoders are pre-trained on; ``OUT/audit.json`` keeps the findings.

    Encoders that are trained inside training folds see no test cell, and are left out.

    Raises:
        CheckFailed: when a finding would spoil an evaluation and ``allow`` is false.
    """
    evaluated = [space.cells(reference) for reference in dict.fromkeys(t.cells for t in space.recipe.tasks.values())]
    plans = [
        plan
        for name, plan in space.recipe.encoders.items()
        if plan.pretrain is not None and not taught_inside(space, name) and name not in space.recipe.inside
    ]
    pretrained = [space.cells(name) for name in dict.fromkeys(name for plan in plans for name in plan.cells)]
    findings = [*(audit(evaluated, pretrain=pretrained).findings if evaluated else ())]
    for plan in space.recipe.cohorts.values():
        # By itself: patients may be made of cells that a task evaluates too.
        findings += audit([space.cells(plan.cells)], pretrain=pretrained).findings
    report = AuditReport(tuple(findings))
    write_json(space.out / "audit.json", report.as_dict())
    if report.spoiled and not allow:
        raise CheckFailed(
            f"{space.out}/audit.json: the audit found what would spoil an evaluation; "
            "mend the cells or give --allow-leaks"
        )
    return report


def parts_of(cellset: CellSet, source: CellSource, *, seed: int) -> np.ndarray:
    """The part ``(N,)`` of each cell of a set that is split, by ``seed``."""
    has_labels = "label" in cellset.cells.columns
    labels = labels_of(cellset) if has_labels else np.full(len(cellset), None, dtype=object)
    group = resolve_group(cellset.cells, source.group)
    return np.asarray(split(cellset.cells, labels, source.split or {}, group=group, seed=seed))


def _write_split(path: Path, cellset: CellSet, source: CellSource, *, seed: int) -> None:
    table = pd.DataFrame({"cell_id": cellset.ids, "part": parts_of(cellset, source, seed=seed)})
    with whole_file(path) as partial:
        table.to_parquet(partial, index=False)
