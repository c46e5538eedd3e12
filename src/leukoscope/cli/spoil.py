from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import Jobs, Json, Overwrite, Seed
from leukoscope.cli.output import say, say_json

_KINDS = "Of defocus, saturation, debris, noise, uneven-light, empty, cut-off, doublet; all by default."


def spoil(
    cells: Annotated[Path, typer.Argument(metavar="SET", help="The CellSet whose cells are spoiled.")],
    out: Annotated[Path, typer.Argument(help="Folder of the CellSet to make.")],
    *,
    kinds: Annotated[str | None, typer.Option("--kinds", metavar="KIND,KIND,...", help=_KINDS)] = None,
    grade: Annotated[
        tuple[float, float], typer.Option("--grade", metavar="LOW HIGH", help="How badly, from 0 to 1.")
    ] = (0.3, 1.0),
    share: Annotated[float, typer.Option("--share", help="Share of the cells that are spoiled.")] = 0.5,
    seed: Seed = 0,
    jobs: Jobs = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Spoil a share of real cells (blur, noise, debris, no cell, two cells ...), to learn quality control from."""
    from leukoscope.cells.cellset import CellSet
    from leukoscope.cells.spoil import spoil as make
    from leukoscope.cells.spoiling.kinds import KINDS

    made = make(
        CellSet.open(cells),
        out,
        kinds=kinds.split(",") if kinds else KINDS,
        grade=grade,
        share=share,
        seed=seed,
        jobs=jobs,
        overwrite=overwrite,
    )
    counts = {str(name): int(count) for name, count in made.cells["quality"].value_counts().items()}
    say(f"{len(made)} cells in {out}: {', '.join(f'{name} {count}' for name, count in counts.items())}")
    say_json(
        json,
        {"out": str(out), "cells": len(made), "quality": counts, "pixels_fingerprint": made.info.pixels_fingerprint},
    )
