from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import Jobs, Json, Overwrite, Seed
from leukoscope.cli.output import say, say_json

_COMPOSITION = (
    "healthy, another patient type, mixed, healthy+HL60=5 (per cent), healthy~NEU.granules=1.3 (times), or "
    "NEU=60,LYM=30,...; may be repeated: patients take types in turn."
)


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder of the CellSet to make.")],
    cells: Annotated[int, typer.Option("--cells", help="How many cells.", min=1)] = 1000,
    size: Annotated[int, typer.Option("--size", help="Side of the square images, in pixels.")] = 200,
    field_um: Annotated[
        float, typer.Option("--field-um", help="Side of the field of view in micrometres, 12 to 28.")
    ] = 28.0,
    bit_depth: Annotated[int, typer.Option("--bit-depth", help="8, or for instance 12 in 16-bit pixels.")] = 8,
    classes: Annotated[
        str | None, typer.Option("--classes", metavar="KIND,KIND,...", help="Kinds to show; all eight by default.")
    ] = None,
    composition: Annotated[list[str] | None, typer.Option("--composition", metavar="TYPE", help=_COMPOSITION)] = None,
    balanced: Annotated[bool, typer.Option("--balanced", help="Every kind equally often (the default).")] = False,
    patients: Annotated[int, typer.Option("--patients", help="How many patients.", min=1)] = 10,
    batches: Annotated[int, typer.Option("--batches", help="Batches that the patients are spread over.", min=1)] = 2,
    difficulty: Annotated[float, typer.Option("--difficulty", help="0 to 1: how far the kinds overlap.")] = 0.5,
    seed: Seed = 0,
    instrument: Annotated[
        int | None,
        typer.Option(
            "--instrument", help="Seed of lamps and cameras; sets that share it share batches. [default: seed]"
        ),
    ] = None,
    jobs: Jobs = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Render labelled bright-field cells with ground truth, for tests, demonstrations and teaching."""
    from leukoscope.cells.simulate import simulate as render
    from leukoscope.common.errors import InputError

    if balanced and composition:
        raise InputError("--balanced and --composition exclude each other; give one")
    cellset = render(
        out,
        cells=cells,
        size=size,
        field_um=field_um,
        bit_depth=bit_depth,
        classes=classes.split(",") if classes else None,
        composition=composition,
        patients=patients,
        batches=batches,
        difficulty=difficulty,
        seed=seed,
        instrument=instrument,
        jobs=jobs,
        overwrite=overwrite,
    )
    kinds = ", ".join(f"{name} {count}" for name, count in cellset.cells["label"].value_counts().sort_index().items())
    say(f"{len(cellset)} cells of {size}x{size} px in {out}: {kinds}")
    say_json(json, {"out": str(out), "cells": len(cellset), "pixels_fingerprint": cellset.info.pixels_fingerprint})
