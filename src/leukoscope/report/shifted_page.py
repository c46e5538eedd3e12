from pathlib import Path

import numpy as np

from leukoscope.report import context
from leukoscope.report.confusion import draw_matrix
from leukoscope.report.drawing import Picture
from leukoscope.report.shifted import SHOWN, Shifted, draw_drop, drop_table
from leukoscope.report.tables import NO_VALUE, Field, Group, Table
from leukoscope.report.template import write_run_page

SECTIONS = (
    ("drop", "What is lost"),
    ("run", "What was run"),
    ("confusion", "Confusion matrices"),
    ("provenance", "Provenance"),
)
_MOST_MATRICES = 6


def write_shift_report(run: Path, *, title: str | None = None) -> Path:
    """Write ``report.html`` and ``figures/`` into the run folder of a shift, and return the page's path.

    The page carries everything inside itself, and scores nothing anew.

    Raises:
        InputError: when ``run`` is no whole run folder of a shift.
    """
    shifted = Shifted.open(run)
    results, folder = shifted.results, run / "figures"
    return write_run_page(
        run,
        "shift.html.j2",
        title=title or f"Cells of another origin: {results['task'] or ', '.join(results['classes'])}",
        facts=[
            ("known cells", f"{results['n']['known']:,}"),
            ("new cells", f"{results['n']['new']:,}"),
            ("classes", str(len(results["classes"]))),
        ],
        sections=SECTIONS,
        drawn=draw_drop(shifted, folder),
        drops=[drop_table(shifted, metric) for metric in SHOWN],
        cells=_cell_table(shifted),
        matrices=_matrices(shifted, folder),
        provenance=context.provenance_of(run),
    )


def _matrices(shifted: Shifted, folder: Path) -> list[Picture]:
    """Confusion matrices of the new cells as they come, by the first head of the best encoders."""
    head, classes = shifted.heads[0], shifted.results["classes"]
    return [
        draw_matrix(np.array(shifted.results["confusion"][encoder][head]), classes, (encoder, head), folder)
        for encoder in shifted.encoders[:_MOST_MATRICES]
    ]


def _cell_table(shifted: Shifted) -> Table:
    results = shifted.results
    left = {
        key: ", ".join(f"{count:,} {name}" for name, count in results["left_out"][key].items()) for key in results["n"]
    }
    rows = [[Field(key), Field(f"{results['n'][key]:,}"), Field(left[key] or NO_VALUE)] for key in results["n"]]
    return Table(
        "cells",
        f"The cells of classes {', '.join(results['classes'])}.",
        ["cells", "number", "of other classes, left out"],
        [Group("", rows)],
        text_columns=3,
        note=f"Cells that both sets hold: {results['shared_cells']:,}.",
    )
