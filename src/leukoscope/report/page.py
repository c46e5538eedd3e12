from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leukoscope.cells.cellset import CellSet
from leukoscope.report import context, pictures, tables
from leukoscope.report.comparisons import significance_table
from leukoscope.report.distrust import doubts
from leukoscope.report.evaluation import Evaluation, Pair
from leukoscope.report.few import few_labels_table
from leukoscope.report.parts import parts_table
from leukoscope.report.summary import summary
from leukoscope.report.template import write_run_page

SECTIONS = (
    ("run", "What was run"),
    ("cells", "Cells"),
    ("scores", "Scores"),
    ("per-class", "Scores by class"),
    ("significance", "Significance"),
    ("few-labels", "Few labels"),
    ("confusion", "Confusion matrices"),
    ("calibration", "Calibration"),
    ("training", "Pre-training"),
    ("maps", "Maps of the features"),
    ("galleries", "Right and wrong cells"),
    ("gradcam", "Where the encoder looks"),
    ("distrust", "What to distrust"),
    ("every-metric", "Every metric"),
    ("provenance", "Provenance"),
    ("glossary", "Glossary"),
)

if TYPE_CHECKING:
    from leukoscope.encoders.bundle import Encoder
    from leukoscope.encoders.features import Features


def write_report(
    run: Path,
    *,
    cellset: CellSet | None = None,
    features: "Mapping[str, Features] | None" = None,
    encoders: "Mapping[str, Encoder] | None" = None,
    history: Mapping[str, Path] | None = None,
    audit: dict[str, Any] | None = None,
    maps: bool = True,
    title: str | None = None,
    seed: int = 0,
) -> Path:
    """Write ``report.html`` and ``figures/`` into the run folder of an evaluation, and return the page's path.

    The page carries everything inside itself and asks nothing of the network. It draws what the evaluation computed and
    scores nothing anew; a part whose input is not given says so in one line.

    Args:
        run: a whole run folder of ``leukoscope evaluate``.
        cellset: the evaluated cells, for galleries and Grad-CAM.
        features: features of the evaluated cells by encoder name, for maps and Grad-CAM.
        encoders: encoder bundles by encoder name, for Grad-CAM.
        history: ``history.csv`` of pre-training by encoder name, for training curves.
        audit: what the audit found, as a dict (``audit.json``).
        maps: whether to draw the features as 2-D maps, which takes a while for many cells.
        title: of the page; made from the task and the cells' name where None.
        seed: of the cells that are shown and of the maps.

    Raises:
        InputError: when ``run`` is no whole run folder of an evaluation.
    """
    evaluation = Evaluation.open(run)
    leader = evaluation.ranked()[0]
    drawn = pictures.draw(
        evaluation, leader, cellset=cellset, features=features, encoders=encoders, history=history, maps=maps, seed=seed
    )
    words = _words(evaluation, leader, cellset, audit)
    words["title"] = title or words["title"]
    return write_run_page(run, "page.html.j2", **words, pictures=drawn)


def _words(
    evaluation: Evaluation, leader: Pair, cellset: CellSet | None, audit: dict[str, Any] | None
) -> dict[str, Any]:
    """Everything that the templates ask for, less the pictures."""
    return {
        "title": context.title(evaluation, cellset),
        "facts": context.facts(evaluation, cellset),
        "summary": summary(evaluation),
        "sections": SECTIONS,
        "what_was_run": context.what_was_run(evaluation),
        "encoders": context.encoders(evaluation),
        "cells": context.cells(evaluation, cellset, audit),
        "metrics": tables.metric_table(evaluation),
        "parts": parts_table(evaluation),
        "every_metric": tables.every_metric_table(evaluation),
        "per_class": tables.per_class_table(evaluation, list(evaluation.leaders())),
        "class_groups": tables.class_groups(evaluation),
        "significance": significance_table(evaluation, leader),
        "few_labels": few_labels_table(evaluation),
        "leader": leader,
        "doubts": doubts(evaluation, leader, audit=audit),
        "provenance": context.provenance(evaluation.provenance, evaluation.recipe),
        "glossary": context.GLOSSARY,
    }
