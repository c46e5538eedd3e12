from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import Device, Json, Only, Overwrite
from leukoscope.cli.output import say, say_json, say_table


def classify(
    cellset: Annotated[Path, typer.Argument(metavar="SET", help="The CellSet of a sample.")],
    encoder: Annotated[Path, typer.Argument(metavar="ENCODER", help="The encoder bundle of the classifier.")],
    classifier: Annotated[Path, typer.Argument(metavar="CLASSIFIER", help="A classifier bundle.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The run folder to make.")],
    only: Only = None,
    quality: Annotated[
        Path | None,
        typer.Option("--quality", metavar="CLASSIFIER", help="A classifier that knows normal cells from spoiled ones."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="Cells a step; does not change the result.", min=1)] = 256,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Classify the cells of a sample and count them."""
    from leukoscope.cells.cellset import CellSet
    from leukoscope.differential.classify import classify as run

    cells = CellSet.open(cellset)
    cells = cells.where(only) if only else cells
    found = run(cells, encoder, classifier, out, quality=quality, batch=batch, device=device, overwrite=overwrite)
    rows = [
        (name, row["count"], *(f"{100 * value:.1f}" for value in (row["proportion"], *row["wilson"])),
         f"{100 * row['adjusted_proportion']:.1f}")
        for name, row in found["classes"].items()
    ]  # fmt: skip
    say_table(["class", "cells", "%", "low", "high", "adjusted, %"], rows)
    if found["set_aside"]:
        told = ", ".join(f"{reason} {count}" for reason, count in found["set_aside"].items())
        say(f"set aside {found['n_imaged'] - found['n']} of {found['n_imaged']} cells: {told}")
    say(f"{out}: {found['n']} cells; low and high are 95 % for counting error alone. For research use, and for review.")
    say_json(json, {"run": str(out), **found})
