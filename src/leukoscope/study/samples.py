from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from leukoscope.common.files import read_json
from leukoscope.common.runs import log
from leukoscope.differential.classify import classify
from leukoscope.differential.fit import fit
from leukoscope.encoders.features import Features
from leukoscope.report.sample_page import write_sample_report
from leukoscope.study.encoders import largest_rankme
from leukoscope.study.tasks import feature_name, probe_settings
from leukoscope.study.workspace import Workspace, classes_of


def classify_sample(space: Workspace, name: str, bundles: Mapping[str, Path]) -> dict[str, Any]:
    """Fit the sample's head on all annotated cells of its task, as they were evaluated; classify and count its cells.

    Args:
        space: the study.
        name: of the sample.
        bundles: the trials of its encoder.

    Returns:
        What ``differential.json`` holds, and ``truth`` where the sample's cells carry labels: the cells of each class.
    """
    sample = space.recipe.samples[name]
    task, device = space.recipe.tasks[sample.task], space.recipe.device
    trial, _ = largest_rankme(bundles)
    classifier = space.out / "classifiers" / f"{sample.task}-{sample.encoder}-{sample.head}"
    if not classifier.exists():
        log.info("sample %s: fit %s on %s", name, sample.head, sample.task)
        features = Features.read(space.features_path(sample.task, feature_name(sample.encoder, trial)))
        annotated, labels = space.annotated(task)
        settings = probe_settings(space, sample.task)
        fit(
            features,
            classifier,
            head=sample.head,
            overlay=labels,
            cells=annotated,
            group=task.group,
            n_folds=task.folds,
            seed=space.recipe.seed,
            settings=settings,
        )
    cells, out = space.cells(sample.cells), space.out / "samples" / name
    if not out.exists():
        classify(cells, bundles[trial], classifier, out, device=device)
    if not (out / "report.html").exists():
        write_sample_report(out, title=f"Differential: {name}")
    differential = read_json(out / "differential.json")
    truth: dict[str, int] = {}
    if task.label in cells.cells.columns:
        known = pd.Series(classes_of(task, cells)).dropna()
        truth = {str(kind): int(count) for kind, count in known.value_counts().sort_index().items()}
    return {**differential, "truth": truth}
