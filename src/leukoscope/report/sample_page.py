from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.common.files import read_json
from leukoscope.differential.ranges import ReferenceRanges
from leukoscope.differential.sample import Sample
from leukoscope.report import context
from leukoscope.report.galleries import Magnification, thumbnail
from leukoscope.report.sample_figures import draw_calibration, draw_differential, draw_novelty, draw_plane
from leukoscope.report.sample_tables import differential_table, estimates_table, manual_table
from leukoscope.report.tables import Table, pairs_table
from leukoscope.report.template import write_run_page

_SHOWN = 12
_NO_FLAG = {True: "Nothing is outside its reference range.", False: "No class here has a reference range."}
SECTIONS = (
    ("differential", "Differential"),
    ("first", "Look at these first"),
    ("quality", "Set aside"),
    ("cells", "Cells as called"),
    ("novelty", "Novelty"),
    ("map", "Map"),
    ("estimates", "Other estimates"),
    ("manual", "Beside a count by eye"),
    ("origin", "Where this comes from"),
)


@dataclass(frozen=True)
class Called:
    """A cell for the page, what it was called, and a word or number below it."""

    src: str
    width: int
    height: int
    name: str
    note: str


@dataclass(frozen=True)
class Shelf:
    """Some cells of those that belong together."""

    title: str
    of: int
    cells: list[Called]


def write_sample_report(run: Path, *, ranges: ReferenceRanges | None = None, title: str | None = None) -> Path:
    """Write ``report.html`` and ``figures/`` into a classified sample, and return the page's path.

    The page is self-contained and prints on paper; it counts nothing anew.

    Args:
        run: the run folder of ``leukoscope classify``.
        ranges: reference ranges that the count was flagged by; None takes those that come with Leukoscope.
        title: of the page.

    Raises:
        InputError: when ``run`` is no classified sample, or its cells are not where they were.
    """
    sample, ranges = Sample.open(run), ranges or ReferenceRanges.read()
    differential, table, folder = sample.differential, sample.table, run / "figures"
    info, limits = sample.cellset.info, sample.classifier.info.novelty
    set_aside = table[~sample.counted]
    return write_run_page(
        run,
        "sample.html.j2",
        title=title or f"Differential: {Path(sample.info.cells).name.removesuffix('.set')}",
        facts=[
            ("cells counted", f"{differential['n']:,}"),
            ("set aside", f"{len(set_aside):,}"),
            context.image_fact(sample.cellset),
            *([] if differential["total"] is None else [("leukocytes", f"{differential['total']:g} × 10⁹/L")]),
            ("date", str(read_json(run / "provenance.json").get("end", ""))[:10]),
        ],
        sections=SECTIONS,
        said=_summary(differential, len(set_aside), ranged=any(ranges.of(name, "percent") for name in sample.classes)),
        drawn=draw_differential(differential, ranges, folder),
        counts=differential_table(differential, ranges),
        first=_first(sample),
        aside=_aside(sample, set_aside),
        quality_judged=differential["quality_judged"],
        called=_as_called(sample),
        magnification=Magnification.of(sample.cellset),
        novelty=draw_novelty(table, limits, folder),
        plane=draw_plane(sample, folder),
        estimates=estimates_table(differential),
        manual=manual_table(differential),
        calibration=draw_calibration(sample.classifier.info, folder),
        origin=_origin(sample, info.channels),
        provenance=context.provenance_of(run),
    )


def _summary(differential: dict[str, Any], set_aside: int, *, ranged: bool) -> list[str]:
    """What a reader must know first, a sentence each; ``ranged`` tells whether any class has a reference range."""
    by_share = sorted(differential["classes"].items(), key=lambda item: -item[1]["corrected_proportion"])
    most = ", ".join(f"{name} {100 * row['corrected_proportion']:.1f} %" for name, row in by_share[:3])
    said = [f"{differential['n']:,} cells were counted, {set_aside:,} set aside: {most}."]
    if not differential["quality_judged"]:
        said.append("Nobody looked for spoiled images: the classifier was fitted without limits of quality.")
    flags = [
        f"{name} {each['flag']} ({each['unit']}{'' if each['certain'] else ', not certainly'})"
        for name, row in differential["classes"].items()
        for each in row["flags"]
    ]
    said.append(f"Outside the reference range: {', '.join(flags)}." if flags else _NO_FLAG[ranged])
    # A sample may have been classified before this was told.
    if assumed := differential.get("assumed_leukocytes"):
        names = ", ".join(assumed)
        said.append(f"Taken to be leukocytes, as nothing is known of them: {names} (say otherwise with --leukocytes).")
    novelty = differential["novelty"]
    if novelty and novelty["flag"]:
        said.append(
            f"{novelty['cells']:,} cells are unlike all that the classifier knows, where {novelty['expected']:.0f} "
            "were expected: the sample may hold a kind that it cannot name. Look at them before anything else."
        )
    return said


def _first(sample: Sample) -> list[Shelf]:
    """Novel cells, the farthest first, and those whose class is most in doubt."""
    table = sample.table[sample.counted]
    novel = table[table["novel"].astype(bool)].sort_values("novelty", ascending=False, kind="stable")
    doubtful = table.sort_values("doubt", ascending=False, kind="stable")
    shelves = [
        ("Unlike all that is known; how far, as a multiple of the limit", novel, "novelty"),
        ("In doubt; the probability that the call is wrong", doubtful, "doubt"),
    ]
    return [_shelf(sample, title, cells, column) for title, cells, column in shelves if len(cells)]


def _aside(sample: Sample, cells: pd.DataFrame) -> list[Shelf]:
    return [_shelf(sample, str(reason), own, "") for reason, own in cells.groupby("set_aside")]


def _as_called(sample: Sample) -> list[Shelf]:
    """Cells of every class drawn at random: what a class looks like here."""
    table = sample.table[sample.counted].sample(frac=1, random_state=0)
    of_class = ((name, table[table["predicted"] == name]) for name in sample.classes)
    return [_shelf(sample, name, own, "doubt") for name, own in of_class if len(own)]


def _shelf(sample: Sample, title: str, cells: pd.DataFrame, column: str) -> Shelf:
    chosen = cells.head(_SHOWN)
    pixels = sample.cellset.read(chosen.index.to_numpy(dtype=np.int64))
    shown = [
        Called(*thumbnail(image, sample.cellset), str(row["predicted"]), f"{row[column]:.2f}" if column else "")
        for image, row in zip(pixels, chosen.to_dict("records"), strict=True)
    ]
    return Shelf(title, len(cells), shown)


def _origin(sample: Sample, channels: tuple[str, ...]) -> Table:
    """The classifier, the encoder and the cells."""
    info = sample.classifier.info
    scores = info.cross_validated
    rows = [
        ("cells", Path(sample.info.cells).name),
        ("channels", ", ".join(channels)),
        ("fingerprint of the pixels", sample.info.pixels_fingerprint),
        ("encoder", f"{info.timm_name}, {info.encoder_fingerprint[:16]}"),
        ("head", f"{info.head}, temperature {info.temperature:.2f}"),
        ("judged on", f"{sum(map(sum, info.confusion)):,} cells of {len(info.classes)} classes that it had not seen"),
        (
            "cross-validated" if info.folds > 1 else "held out",
            f"accuracy {100 * scores['accuracy']:.1f} %, balanced {100 * scores['balanced_accuracy']:.1f} %, "
            f"calibration error {100 * scores['ece_calibrated']:.1f} %"
            + (f", {info.folds} folds" if info.folds > 1 else ""),
        ),
        ("folds kept whole", info.group or "cells one by one"),
    ]
    if info.answers.effective is not None:
        few, many = min(info.answers.effective), max(info.answers.effective)
        rows.append(("worth, for a new patient", f"{few:,.0f} to {many:,.0f} cells of each class, as patients differ"))
    if info.answers.patients is not None:
        rows.append(("patients differ", f"along one axis in all classes together, known from {info.answers.patients}"))
    return pairs_table("origin", "The classifier, the encoder and the cells.", rows)
