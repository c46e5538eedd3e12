from pathlib import Path
from typing import Any

from leukoscope.common.files import read_json
from leukoscope.report import context
from leukoscope.report.drawing import FAINT, Picture, colour, figure, keep
from leukoscope.report.tables import Field, Group, Table
from leukoscope.report.template import write_run_page

_WIDTH = 7.2  # inches: the text of an A4 page
_ACROSS = 3
_AMONG = {"leukocytes": "the leukocytes", "cells": "all cells counted"}
_TOGETHER = {
    True: "The samples are taken to be of one patient and measured alike, so that their cells are confused alike. "
    "Where they are not, intervals of differences are too narrow (--several-patients).",
    False: "The samples are taken to be of several patients, or measured differently, each confused in its own way. "
    "Where they are of one and measured alike, intervals of differences are too wide (--one-patient).",
}
SECTIONS = (
    ("trend", "Trend"),
    ("shares", "Shares"),
    ("differences", "Differences"),
    ("origin", "Where this comes from"),
)


def write_comparison_report(run: Path, *, title: str | None = None) -> Path:
    """Write ``report.html`` and ``figures/`` into the run folder of ``leukoscope compare``; return the page's path."""
    results = read_json(run / "results.json")
    return write_run_page(
        run,
        "comparison.html.j2",
        title=title or f"Comparison of {', '.join(results['samples'])}",
        facts=[
            ("samples", str(len(results["samples"]))),
            ("classes", str(len(results["classes"]))),
            ("taken to be of", "one patient" if results["one_patient"] else "several patients"),
        ],
        sections=SECTIONS,
        drawn=_draw(results, run / "figures"),
        shares=[_share_table(results, of) for of in _asked(results)],
        together=_TOGETHER[results["one_patient"]],
        differences=[_difference_table(results, of) for of in _asked(results)],
        provenance=context.provenance_of(run),
    )


def _draw(results: dict[str, Any], folder: Path) -> Picture:
    """A panel for each class: its share in every sample, in order."""
    samples, classes = results["samples"], results["classes"]
    down = -(-len(classes) // _ACROSS)
    with figure(_WIDTH, 0.4 + 1.5 * down) as drawn:
        panels = drawn.subplots(down, _ACROSS, squeeze=False, sharex=True).ravel()
        for place, (axes, kind) in enumerate(zip(panels, classes, strict=False)):
            of = "leukocytes" if kind in _classes(results, "leukocytes") else "cells"
            own = [row[of] for row in _of_class(results, kind)]
            shares = [100 * row["share"] for row in own]
            ends = [
                [100 * (row["share"] - row["low"]) for row in own],
                [100 * (row["high"] - row["share"]) for row in own],
            ]
            clipped = [[max(0.0, each) for each in side] for side in ends]
            axes.plot(range(len(own)), shares, color=FAINT, linewidth=0.8)
            axes.errorbar(range(len(own)), shares, yerr=clipped, fmt="o", color=colour(place), capsize=2, markersize=4)
            axes.set_title(kind if of == "leukocytes" else f"{kind}, of all cells")
            axes.set_ylim(bottom=0)
            axes.set_xticks(range(len(samples)), samples, rotation=45, ha="right")
        for axes in panels[len(classes) :]:
            axes.set_axis_off()
        caption = "Corrected share of each class among the leukocytes, in per cent, with its 95 % interval."
        return keep(drawn, folder, "trend", alt=f"Shares in {', '.join(samples)}", caption=caption)


def _share_table(results: dict[str, Any], of: str) -> Table:
    rows = []
    for kind in _classes(results, of):
        own = [row[of] for row in _of_class(results, kind)]
        rows.append(
            [Field(kind), *(Field(f"{100 * row['share']:.1f}", small=_ends(row["low"], row["high"])) for row in own)]
        )
    caption = f"Share of each class among {_AMONG[of]}, in per cent, and its 95 % interval for the patient."
    return Table(f"shares-of-{of}", caption, ["class", *results["samples"]], [Group("", rows)])


def _difference_table(results: dict[str, Any], of: str) -> Table:
    first, *others = results["samples"]
    rows = []
    for kind in _classes(results, of):
        fields = [Field(kind)]
        for row in (each[of] for each in _of_class(results, kind)[1:]):
            clear = row["difference_low"] > 0 or row["difference_high"] < 0
            fields.append(
                Field(
                    f"{100 * row['difference']:+.1f}",
                    small=f"{_ends(row['difference_low'], row['difference_high'])}; {row['p_above_first']:.2f}",
                    strong=clear,
                )
            )
        rows.append(fields)
    caption = (
        f"Difference from {first} of the share among {_AMONG[of]}, in points of per cent, its 95 % interval, and the "
        "posterior probability that the share is greater than there. Strong: the interval leaves 0 out; "
        f"{len(rows) * len(others)} differences were looked at."
    )
    return Table(f"differences-of-{of}", caption, ["class", *others], [Group("", rows)])


def _asked(results: dict[str, Any]) -> list[str]:
    """Among what shares are told: the leukocytes, and all cells where some are none."""
    leukocytes = _classes(results, "leukocytes")
    return [of for of, told in (("leukocytes", leukocytes), ("cells", leukocytes != results["classes"])) if told]


def _classes(results: dict[str, Any], of: str) -> list[str]:
    """The classes that have a share among the leukocytes, or among all cells."""
    return [kind for kind in results["classes"] if _of_class(results, kind)[0][of] is not None]


def _of_class(results: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The rows of one class, a row a sample in their order."""
    return [row for row in results["rows"] if row["class"] == kind]


def _ends(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"
