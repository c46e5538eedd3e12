from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import Device, Json, Only, Overwrite, Seed
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
    total: Annotated[
        float | None, typer.Option("--total", metavar="N", help="Leukocytes in 10^9/L, for absolute counts.")
    ] = None,
    ranges: Annotated[
        Path | None, typer.Option("--ranges", metavar="FILE", help="Reference ranges: class,low,high,unit (.csv).")
    ] = None,
    fhir: Annotated[bool, typer.Option("--fhir", help="Write the count as an HL7 FHIR R4 bundle, too.")] = False,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Classify the cells of a sample and count them."""
    from leukoscope.cells.cellset import CellSet
    from leukoscope.differential.classify import classify as run
    from leukoscope.differential.ranges import ReferenceRanges
    from leukoscope.report.sample_page import write_sample_report

    cells = CellSet.open(cellset)
    cells = cells.where(only) if only else cells
    limits = ReferenceRanges.read(ranges)
    found = run(
        cells,
        encoder,
        classifier,
        out,
        quality=quality,
        batch=batch,
        device=device,
        total=total,
        ranges=limits,
        fhir=fhir,
        seed=seed,
        overwrite=overwrite,
    )
    write_sample_report(out, ranges=limits)
    rows = [
        (name, row["count"], *(f"{100 * value:.1f}" for value in (row["corrected_proportion"], *row["patient"])),
         ", ".join(each["flag"] + ("" if each["certain"] else "?") for each in row["flags"]))
        for name, row in found["classes"].items()
    ]  # fmt: skip
    say_table(["class", "called", "corrected, %", "low", "high", "range"], rows)
    if found["set_aside"]:
        told = ", ".join(f"{reason} {count}" for reason, count in found["set_aside"].items())
        say(f"set aside {found['n_imaged'] - found['n']} of {found['n_imaged']} cells: {told}")
    say(f"{out}: {found['n']} cells; low and high are 95 % for the patient's share. For research use, and for review.")
    novelty = found["novelty"]
    if novelty and novelty["flag"]:
        say(f"{novelty['cells']} cells are unlike all known kinds ({novelty['expected']:.0f} expected): look at them.")
    say_json(json, {"run": str(out), **found})
