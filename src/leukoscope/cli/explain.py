from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import Device, Json, LabelColumn, LabelsFile, Overwrite, Seed, Size
from leukoscope.cli.output import say, say_json

_ENCODERS = "Encoder bundles; or random:NAME, imagenet:NAME, imagenet:NAME@FILE; NAME=ENCODER names one."
_WHAT = "Of gradcam, attention, pca, map, with commas between; by default all that the encoders can give."
_CELLS = "Cells to show, with commas between: a cell_id, how one begins, or a source."
_REFERENCE = "Grad-CAM for likeness to these cells, named as --cells; by default the first cell shown."
_PATIENT = "The patient of --new that is shown dark over the maps."


def explain(
    cellset: Annotated[Path, typer.Argument(metavar="SET", help="A CellSet.")],
    encoders: Annotated[list[str], typer.Argument(metavar="ENCODER...", help=_ENCODERS)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The run folder to make.")],
    what: Annotated[str | None, typer.Option("--what", metavar="KINDS", help=_WHAT)] = None,
    cells: Annotated[str | None, typer.Option("--cells", metavar="ID,...", help=_CELLS)] = None,
    per_class: Annotated[int | None, typer.Option("--per-class", help="Show N cells of each class.", min=1)] = None,
    reference: Annotated[str | None, typer.Option("--reference", metavar="ID,...", help=_REFERENCE)] = None,
    classifier: Annotated[
        Path | None, typer.Option("--classifier", metavar="BUNDLE", help="Grad-CAM for the class that it predicts.")
    ] = None,
    new: Annotated[Path | None, typer.Option("--new", metavar="SET", help="Cells to place into the maps.")] = None,
    patient: Annotated[str | None, typer.Option("--patient", metavar="NAME", help=_PATIENT)] = None,
    label: LabelColumn = "label",
    labels: LabelsFile = None,
    method: Annotated[str, typer.Option("--method", metavar="umap|tsne", help="How maps are made.")] = "umap",
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Colour only patches with a positive first component.")
    ] = False,
    most: Annotated[int, typer.Option("--most", help="Cells of each set at most in a map.", min=10)] = 5000,
    size: Size = None,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Show what encoders see in cells: heat, attention, patches as colours, maps; OUT/report.html, OUT/figures."""
    from leukoscope.cells.cellset import CellSet
    from leukoscope.cells.labels import Labels
    from leukoscope.encoders.baselines import open_encoders
    from leukoscope.report.explanation import explain as run

    shown = CellSet.open(cellset)
    found = run(
        shown,
        open_encoders(encoders, shown, size=size, seed=seed),
        out,
        what=_split(what) or None,
        cells=_split(cells),
        per_class=per_class,
        reference=_split(reference),
        classifier=classifier,
        new=CellSet.open(new) if new else None,
        patient=patient,
        label=label,
        overlay=Labels.read(labels) if labels else None,
        method=method,
        foreground=foreground,
        most=most,
        seed=seed,
        device=device,
        overwrite=overwrite,
    )
    for kind, reasons in found["absent"].items():
        for why in reasons:
            say(f"{kind}: {why}")
    say(f"{out}: {len(found['cells'])} cells, {sum(map(len, found['figures'].values()))} figures")
    say(str(out / "report.html"))
    say_json(json, {"run": str(out), "report": str(out / "report.html"), **found})


def _split(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
