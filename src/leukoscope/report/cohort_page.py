from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.common.progress import progress
from leukoscope.report import context
from leukoscope.report.cohort import Cohort
from leukoscope.report.cohort_figures import draw_cells, draw_curves, draw_kinds, draw_learning
from leukoscope.report.cohort_tables import kinds_table, patients_table, removal_table, runs_table, stability_table
from leukoscope.report.comparisons import significance_table
from leukoscope.report.confusion import draw_confusion
from leukoscope.report.drawing import Picture
from leukoscope.report.maps import MOST_POINTS
from leukoscope.report.patient_page import CellMap, Images, write_patient_page
from leukoscope.report.tables import Table, metric_table, pairs_table, per_class_table
from leukoscope.report.template import write_run_page

if TYPE_CHECKING:
    from leukoscope.encoders.features import Features

SECTIONS = (
    ("run", "What was run"),
    ("scores", "Scores"),
    ("curves", "Curves"),
    ("confusion", "Confusion matrices"),
    ("significance", "Significance"),
    ("patients", "Patients"),
    ("attention", "What attention lies on"),
    ("map", "Map of the cells"),
    ("provenance", "Provenance"),
)
_FEWEST_POINTS = 10
_MOST_MAPS = 4


def write_cohort_report(
    run: Path,
    *,
    features: "Mapping[str, Features] | None" = None,
    cellset: CellSet | None = None,
    patients: bool = True,
    title: str | None = None,
    seed: int = 0,
) -> Path:
    """Write ``report.html``, a page a patient under ``patients/``, and ``figures/`` into the run folder of ``mil``.

    Pages carry everything inside themselves, ask nothing of the network, and score nothing anew.

    Args:
        run: a whole run folder of ``leukoscope mil``.
        features: of the patients' cells by encoder name, for the map.
        cellset: the images of the cells, for the galleries.
        patients: whether to write the patients' pages.
        title: of the page.
        seed: of the cells on the map.

    Returns:
        The path of ``report.html``.

    Raises:
        InputError: when ``run`` is no whole run folder of ``mil``.
    """
    cohort = Cohort.open(run)
    evaluation, folder = cohort.evaluation, run / "figures"
    title = title or f"Patients: {cohort.results['task'] or ', '.join(evaluation.classes)}"
    cell_map, maps = _lay_maps(cohort, features or {}, folder, seed)
    if patients:
        images = None if cellset is None else Images.of(cellset)
        with progress("patients' pages", len(cohort.pages), "pages") as advance:
            for patient in cohort.pages:
                write_patient_page(cohort, patient, run, title=title, images=images, cell_map=cell_map)
                advance(1)
    # Last of all: where it stands, the pages that it links to do.
    return write_run_page(
        run,
        "cohort.html.j2",
        title=title,
        facts=_facts(cohort, cellset),
        sections=SECTIONS,
        warnings=[*(note.rstrip(".") for note in cohort.results["notes"]), *cohort.results["warnings"]],
        run=_run_table(cohort),
        encoders=context.encoders(evaluation),
        runs=runs_table(cohort),
        metrics=metric_table(evaluation),
        per_class=per_class_table(evaluation, cohort.leaders),
        curves=draw_curves(cohort, folder),
        learning=draw_learning(cohort, folder),
        confusion=[draw_confusion(evaluation, pair, folder) for pair in cohort.leaders[:6]],
        significance=significance_table(evaluation, evaluation.ranked()[0]),
        patients=patients_table(cohort, linked=patients),
        drawn_kinds=draw_kinds(cohort, folder),
        kinds=kinds_table(cohort),
        removal=removal_table(cohort),
        stability=stability_table(cohort),
        maps=maps,
        provenance=context.provenance(evaluation.provenance, evaluation.recipe),
    )


def _facts(cohort: Cohort, cellset: CellSet | None) -> list[tuple[str, str]]:
    results = cohort.results
    found = [
        ("patients", f"{results['n']:,}"),
        ("cells", f"{results['cells']['all']:,}"),
        ("classes", str(len(cohort.evaluation.classes))),
        ("folds × seeds", f"{results['folds']} × {len(results['seeds'])}"),
    ]
    return found if cellset is None else [*found, context.image_fact(cellset)]


def _run_table(cohort: Cohort) -> Table:
    results, recipe = cohort.results, cohort.evaluation.recipe
    cells = results["cells"]
    train = recipe.get("settings", {}).get("train", {})
    return pairs_table(
        "run",
        "Patients, models and protocol.",
        [
            ("patients", ", ".join(f"{count} {name}" for name, count in results["bags"].items())),
            ("cells of a patient", f"{cells['least']:,} to {cells['most']:,}"),
            ("encoders", ", ".join(dict.fromkeys(encoder for encoder, _ in cohort.evaluation.pairs))),
            ("models", ", ".join(dict.fromkeys(head for _, head in cohort.evaluation.pairs))),
            (
                "protocol",
                f"{results['folds']} folds over patients, stratified; a part of each training fold tells when to stop; "
                f"every model is trained anew for {len(results['seeds'])} seeds, and judges its test patients once",
            ),
            ("training", ", ".join(f"{key} {value}" for key, value in train.items())),
            (
                "patients kept together",
                f"{results['linked']} beyond the first of their group" if results["linked"] else "none",
            ),
        ],
    )


def _lay_maps(
    cohort: Cohort, features: "Mapping[str, Features]", folder: Path, seed: int
) -> tuple[CellMap | None, list[Picture]]:
    """Maps of cells of all patients, as many of each, by the encoders of the best models with attention.

    The first map is that of the best model, which the patients' pages show their cells on; None where there is none.
    """
    from leukoscope.explain.map2d import umap_map

    first: CellMap | None = None
    drawn = []
    for pair in [pair for pair in cohort.leaders if pair in cohort.readers and pair[0] in features][:_MOST_MAPS]:
        own = features[pair[0]]
        called = cohort.looked(pair, cohort.patients.set_index("patient")["predicted"])
        cells = called.set_index("cell_id").reindex(own.ids)
        rows = _as_many_of_each(cells["bag"], seed)
        if len(rows) < _FEWEST_POINTS:
            continue
        places = umap_map(own.x[rows], seed=seed)
        drawn.append(draw_cells(cells.iloc[rows], places, pair, folder))
        if pair == cohort.readers[0]:
            first = CellMap(own.ids[rows], places)
    return first, drawn


def _as_many_of_each(bag: pd.Series, seed: int) -> np.ndarray:
    """Rows of at most 4,000 cells that have a bag, as many of each as there are."""
    known = np.flatnonzero(bag.notna().to_numpy())
    shuffled = pd.Series(np.random.default_rng(seed).permutation(known))
    turn = shuffled.groupby(bag.to_numpy()[shuffled]).cumcount()
    rows: np.ndarray = np.sort(shuffled[np.argsort(turn.to_numpy(), kind="stable")[:MOST_POINTS]].to_numpy())
    return rows
