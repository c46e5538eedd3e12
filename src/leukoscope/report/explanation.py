from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.labels import Labels
from leukoscope.common.errors import InputError
from leukoscope.common.files import refuse_folder
from leukoscope.common.runs import RunFolder, log, run_folder, run_mark
from leukoscope.differential.classifier import Classifier
from leukoscope.encoders.bundle import Encoder
from leukoscope.explain.chosen import choose_cells, find_cells
from leukoscope.report import explained
from leukoscope.report.asked import KINDS, labelled, refuse_misfits, shown_patient
from leukoscope.report.cellgrid import ShownCells
from leukoscope.report.explained_page import write_explanation
from leukoscope.report.subject import Section, Subject

_NOT_ASKED = Section(absent=["not asked for."])


def explain(
    cellset: CellSet,
    encoders: Mapping[str, Encoder],
    out: Path,
    *,
    what: Sequence[str] | None = None,
    cells: Sequence[str] = (),
    per_class: int | None = None,
    reference: Sequence[str] = (),
    classifier: Classifier | Path | None = None,
    new: CellSet | None = None,
    patient: str | None = None,
    label: str = "label",
    overlay: Labels | None = None,
    method: str = "umap",
    foreground: bool = False,
    most: int = 5000,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Show what encoders see in cells: the run folder ``out`` with figures for print, their numbers, ``report.html``.

    ``figures/`` holds each figure as ``.pdf`` and as ``.png`` of 300 dpi; ``arrays/`` heat, attention and colours of
    the shown cells (``.npy``, in the order of ``tables/cells.csv``; likeness in that of ``tables/likeness.csv``), and
    ``tables/`` the places of the maps. See docs/explain.md for how to read each picture.

    Args:
        cellset: the cells; maps are fitted on all of them.
        encoders: frozen encoders by name, shown side by side.
        out: the run folder.
        what: of ``gradcam``, ``attention``, ``pca``, ``map``; all of them if None.
        cells: the cells to show: a ``cell_id``, how one begins, or a source.
        per_class: how many cells of each class to show instead, drawn by ``seed``; about eight in all if None.
        reference: the cells that Grad-CAM compares with, named as ``cells``; without these and without a
            ``classifier`` the first cell shown.
        classifier: a bundle, or its folder, for Grad-CAM of the class predicted.
        new: cells that are placed into the maps.
        patient: the patient of ``new`` that is shown dark over the maps; one drawn by ``seed`` if None.
        label: the column of the tables that holds the class.
        overlay: labels laid over the tables.
        method: of the maps, ``umap`` or ``tsne``.
        foreground: colour only patches with a positive first component.
        most: cells of each set at most in a map.
        seed: of the cells drawn and of the maps.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        overwrite: replace what ``out`` holds.

    Returns:
        What ``results.json`` holds: the cells shown, the encoders, the figures, and why others are absent.

    Raises:
        InputError: when a cell, kind, patient or label column is not there, encoders and cells or classifier do not
            fit, a kind asked for by name can be given by no encoder, or ``out`` exists.
    """
    refuse_folder(out, run_mark("explain"), overwrite=overwrite)
    classifier = Classifier.load(classifier) if isinstance(classifier, Path) else classifier
    cellset = labelled(cellset, label, overlay)
    new = None if new is None else labelled(new, label, overlay, needed=False)
    refuse_misfits(cellset, encoders, what, method, classifier, new)
    patient = shown_patient(new, patient, seed)
    if cells and per_class:
        raise InputError("explain: give --cells or --per-class, not both")
    rows = find_cells(cellset, cells) if cells else choose_cells(cellset, _labels(cellset), per_class, seed=seed)
    references = find_cells(cellset, reference) if reference else rows[:1] if classifier is None else rows[:0]
    kinds = [kind for kind in KINDS if what is None or kind in what]
    settings = {
        "cells": str(cellset.path),
        "encoders": list(encoders),
        "what": kinds,
        "shown": cellset.ids[rows].tolist(),
        "reference": cellset.ids[references].tolist(),
        "label": label,
        "new": None if new is None else str(new.path),
        "patient": patient,
        "method": method,
        "foreground": foreground,
        "most": most,
        "seed": seed,
    }
    with run_folder(out, verb="explain", settings=settings, seed=seed, overwrite=overwrite) as run:
        subject = Subject(encoders, _shown(cellset, rows), run.path, device)
        found = {
            "gradcam": lambda: _grad_cam(subject, references, classifier),
            "attention": lambda: explained.explain_attention(subject),
            "pca": lambda: explained.explain_patches(subject, foreground=foreground),
            "map": lambda: explained.explain_maps(subject, new, patient=patient, method=method, most=most, seed=seed),
        }
        sections = {kind: found[kind]() if kind in kinds else _NOT_ASKED for kind in KINDS}
        for kind in what or ():
            if not sections[kind].pictures:
                raise InputError(sections[kind].absent[0].removesuffix("."))
        _record(run, subject, new, classifier)
        write_explanation(run, subject, sections, settings)
        results = {
            "cells": settings["shown"],
            "references": settings["reference"],
            "encoders": {name: encoder.info.timm_name for name, encoder in encoders.items()},
            "figures": {kind: [picture.file for picture in sections[kind].pictures] for kind in kinds},
            "absent": {kind: sections[kind].absent for kind in kinds},
        }
        run.finish(results)
        log.info("explained %d cells: %s", len(rows), out / "report.html")
    return results


def _grad_cam(subject: Subject, references: np.ndarray, classifier: Classifier | None) -> Section:
    parts = [] if classifier is None else [explained.explain_classes(subject, classifier)]
    parts += [explained.explain_likeness(subject, references)] if len(references) else []
    return Section([p for part in parts for p in part.pictures], [why for part in parts for why in part.absent])


def _labels(cellset: CellSet) -> np.ndarray:
    labels: np.ndarray = cellset.cells["label"].to_numpy(dtype=object)
    return labels


def _shown(cellset: CellSet, rows: np.ndarray) -> ShownCells:
    titles = [f"{number} {name or ''}".strip() for number, name in enumerate(_labels(cellset)[rows], start=1)]
    return ShownCells(cellset, rows, titles)


def _record(run: RunFolder, subject: Subject, new: CellSet | None, classifier: Classifier | None) -> None:
    """Keep the table of the shown cells, and of what everything was made."""
    shown = subject.shown
    table = shown.cellset.cells.iloc[shown.rows].reset_index(drop=True)
    table.insert(0, "number", np.arange(1, len(table) + 1))
    subject.keep_table("cells", table)
    run.fingerprint("pixels", shown.cellset.pixels_fingerprint)
    if classifier is not None:
        run.fingerprint("classifier_trained_on", classifier.info.pixels_fingerprint)
    if new is not None:
        run.fingerprint("new.pixels", new.pixels_fingerprint)
    for name, encoder in subject.encoders.items():
        run.fingerprint(f"{name}.encoder", encoder.fingerprint)
