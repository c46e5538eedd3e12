from typing import Any

import numpy as np

from leukoscope.common.runs import log
from leukoscope.differential.classify import classify
from leukoscope.differential.fit import fit
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.features import Features
from leukoscope.study.workspace import Workspace, classes_of


def classify_sample(space: Workspace, name: str) -> dict[str, Any]:
    """Fit the sample's head on all annotated cells of its task, classify and count its cells.

    Returns:
        What ``differential.json`` holds, and ``truth`` where the sample's cells carry labels: the true counts.
    """
    sample = space.recipe.samples[name]
    bundle = space.encoder_path(sample.encoder) / "encoder"
    classifier = space.out / "classifiers" / f"{sample.task}-{sample.encoder}-{sample.head}"
    _, labels = space.annotated(space.recipe.tasks[sample.task])
    if not classifier.exists():
        log.info("sample %s: fit %s on %s", name, sample.head, sample.task)
        features = Features.read(space.features_path(sample.task, sample.encoder))
        fit(features, classifier, head=sample.head, overlay=labels, seed=space.recipe.seed)
    cells = space.cells(sample.cells)
    out = space.out / "samples" / name
    differential = classify(cells, Encoder.load(bundle), classifier, out, overwrite=True)
    task = space.recipe.tasks[sample.task]
    known = classes_of(task, cells) if task.label in cells.cells.columns else np.array([])
    truth = {str(label): int((known == label).sum()) for label in sorted({str(label) for label in known})}
    return {**differential, "truth": truth}
