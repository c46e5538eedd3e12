from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.bags.stability import TOP
from leukoscope.cells.cellset import CellSet
from leukoscope.report.cohort import Cohort
from leukoscope.report.cohort_figures import draw_own_cells
from leukoscope.report.drawing import Picture
from leukoscope.report.galleries import Magnification, thumbnail
from leukoscope.report.tables import NO_VALUE, Field, Group, Table
from leukoscope.report.template import write_page

_SHOWN = 16


@dataclass(frozen=True)
class LookedAt:
    """A cell for the page, with the attention that it was given as a multiple of an even share."""

    src: str
    width: int
    height: int
    kind: str
    attention: float


@dataclass(frozen=True)
class LookedAtCells:
    """The cells that one class's attention lies on most, and least."""

    towards: str
    cells: int
    most: list[LookedAt]
    least: list[LookedAt]


@dataclass(frozen=True)
class Images:
    """The images of cells, and the row of each by its ``cell_id``."""

    cellset: CellSet
    row_of: pd.Series

    @classmethod
    def of(cls, cellset: CellSet) -> "Images":
        """Those of a set."""
        return cls(cellset, pd.Series(np.arange(len(cellset)), index=cellset.ids))


@dataclass(frozen=True)
class CellMap:
    """A map of cells of all patients: ``cell_id`` and places ``(n, 2)``."""

    ids: np.ndarray
    places: np.ndarray


def write_patient_page(
    cohort: Cohort, patient: str, run: Path, *, title: str, images: Images | None, cell_map: CellMap | None
) -> None:
    """Write the page of one patient: what was said of it, and the cells that decided.

    Args:
        cohort: the run.
        patient: whose.
        run: the run folder; the page goes to ``patients/`` in it.
        title: of the cohort's page, which this one links to.
        images: of the cells, for the gallery.
        cell_map: of all patients' cells.
    """
    own: dict[Hashable, Any] = cohort.patients.set_index("patient").loc[patient].to_dict()
    folder = run / "patients" / "figures"
    drawn: Picture | None = None
    # One attention for all classes is the same towards each.
    asked = [own["predicted"], own["label"]] if cohort.has_class_attention else [own["predicted"]]
    towards = dict.fromkeys(asked) if cohort.readers else {}
    looked = {name: cohort.towards(name) for name in towards}
    looked = {name: cells[cells["bag"] == patient] for name, cells in looked.items()}
    if looked and cell_map is not None:
        attention = looked[own["predicted"]].set_index("cell_id")["attention"].reindex(cell_map.ids)
        if attention.notna().any():
            name = Path(cohort.pages[patient]).stem
            drawn = draw_own_cells(
                cell_map.places, attention.notna().to_numpy(), attention.fillna(0.0).to_numpy(), folder, name
            )
    path = run / cohort.pages[patient]
    path.parent.mkdir(exist_ok=True)
    write_page(
        path,
        "patient.html.j2",
        title=f"Patient {patient}",
        facts=[
            ("class", own["label"]),
            ("called", f"{own['predicted']} ({own['probability']:.2f})"),
            ("tested in fold", str(own["fold"] + 1)),
            *([("cells", f"{len(looked[own['predicted']]):,}")] if looked else []),
        ],
        sections=_SECTIONS,
        home=f"../{_HOME}",
        cohort=title,
        said=_said_table(cohort, patient),
        reader=" ".join(cohort.readers[0]) if cohort.readers else "",
        galleries=[] if images is None else [_gallery(name, cells, images) for name, cells in looked.items()],
        of_class=cohort.has_class_attention,
        magnification=None if images is None else Magnification.of(images.cellset),
        kinds=_kind_table(looked[own["predicted"]], own["predicted"]) if looked else None,
        drawn=drawn,
    )


_HOME = "report.html"
_SECTIONS = (("said", "What was said"), ("cells", "The cells that decided"), ("kinds", "Kinds"), ("map", "Map"))


def _said_table(cohort: Cohort, patient: str) -> Table:
    classes = cohort.evaluation.classes
    rows = []
    for row in cohort.probabilities(patient).to_dict("records"):
        p = [float(row[f"p_{name}"]) for name in classes]
        rows.append(
            [
                Field(row["encoder"]),
                Field(row["head"]),
                *(Field(f"{each:.2f}", strong=each == max(p), value=each) for each in p),
            ]
        )
    return Table(
        "said",
        "Probability of each class, from models that had not seen this patient: mean over seeds.",
        ["encoder", "model", *classes],
        [Group("", rows)],
        text_columns=2,
    )


def _gallery(towards: str, cells: pd.DataFrame, images: Images) -> LookedAtCells:
    ranked = cells.sort_values("attention", ascending=False, kind="stable")
    ranked = ranked[ranked["cell_id"].isin(images.row_of.index)]
    half = min(_SHOWN, max(1, len(ranked) // 2))
    return LookedAtCells(towards, len(ranked), _shown(ranked.head(half), images), _shown(ranked.tail(half), images))


def _shown(cells: pd.DataFrame, images: Images) -> list[LookedAt]:
    pixels = images.cellset.read(images.row_of[cells["cell_id"]].to_numpy(dtype=np.int64))
    return [
        LookedAt(*thumbnail(image, images.cellset), "" if pd.isna(kind) else str(kind), float(attention))
        for image, kind, attention in zip(pixels, cells["kind"], cells["attention"], strict=True)
    ]


def _kind_table(cells: pd.DataFrame, towards: str) -> Table | None:
    known = cells[cells["kind"].notna()]
    if known.empty:
        return None
    top = known["rank"] > 1 - TOP
    rows = []
    for kind, own in sorted(known.groupby("kind"), key=lambda item: -item[1]["attention"].mean()):
        share_of_top = f"{100 * (known.loc[top, 'kind'] == kind).mean():.0f} %" if top.any() else NO_VALUE
        rows.append(
            [
                Field(str(kind)),
                Field(f"{len(own):,}"),
                Field(f"{100 * len(own) / len(known):.1f} %"),
                Field(f"{own['attention'].mean():.2f}"),
                Field(share_of_top),
            ]
        )
    return Table(
        "kinds",
        f"Kinds of this patient's cells, and the attention to {towards} that they got (1 is an even share).",
        ["kind", "cells", "share", "attention", "share of top tenth"],
        [Group("", rows)],
    )
