from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import Json, Overwrite, Seed
from leukoscope.cli.output import say, say_json

_PLAN = "What patients are made of: blood-smear, or a YAML file with label, reference and types."
_COMPOSITION = "A type of the plan, or healthy+KIND=5 (per cent); may be repeated. [default: all types of the plan]"
_TINT = "How far stain (optical density of each channel) differs between patients: sd of its logarithm."
_FOCUS = "How far focus differs between patients: sd of the blur in pixels."


def cohort(
    cells: Annotated[Path, typer.Argument(metavar="SET", help="CellSet of labelled cells.")],
    out: Annotated[Path, typer.Argument(help="Folder of the CellSet to make.")],
    plan: Annotated[str, typer.Option("--plan", metavar="NAME|FILE", help=_PLAN)] = "blood-smear",
    composition: Annotated[list[str] | None, typer.Option("--composition", metavar="TYPE", help=_COMPOSITION)] = None,
    patients: Annotated[int, typer.Option("--patients", help="How many patients.")] = 50,
    per_patient: Annotated[
        tuple[int, int], typer.Option("--cells", metavar="FEWEST MOST", help="Cells of a patient.")
    ] = (80, 120),
    pools: Annotated[int, typer.Option("--pools", help="Parts of SET; patients of two share no cell.")] = 5,
    reuse: Annotated[bool, typer.Option("--reuse", help="A cell may stand for several patients of its pool.")] = False,
    tint: Annotated[float, typer.Option("--tint", help=_TINT)] = 0.0,
    focus: Annotated[float, typer.Option("--focus", help=_FOCUS)] = 0.0,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make patients of labelled cells with planted compositions, to try what finds them."""
    from leukoscope.cells.cellset import CellSet
    from leukoscope.cells.cohort import cohort as make

    made = make(
        CellSet.open(cells),
        out,
        plan=plan,
        composition=composition or (),
        patients=patients,
        cells=per_patient,
        pools=pools,
        reuse=reuse,
        tint=tint,
        focus=focus,
        seed=seed,
        overwrite=overwrite,
    )
    types = made.cells.drop_duplicates("patient")["patient_type"].value_counts().sort_index()
    say(f"{len(made)} cells of {patients} patients in {out}: {', '.join(f'{n} {name}' for name, n in types.items())}")
    say_json(json, {"out": str(out), "cells": len(made), "types": {str(name): int(n) for name, n in types.items()}})
