from pathlib import Path
from typing import Annotated, Any

import typer

from leukoscope.cli.options import Device, Json, Only, Overwrite, Seed
from leukoscope.cli.output import say, say_json, say_table
from leukoscope.common.errors import InputError


def classify(
    cellset: Annotated[Path, typer.Argument(metavar="SET", help="The CellSet of a sample.")],
    encoder: Annotated[Path, typer.Argument(metavar="ENCODER", help="The encoder bundle of the classifier.")],
    classifier: Annotated[Path, typer.Argument(metavar="CLASSIFIER", help="A classifier bundle.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The run folder to make.")],
    only: Only = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="COLUMN", help="Classify the cells of each value apart, such as each patient."),
    ] = None,
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
    leukocytes: Annotated[
        Path | None,
        typer.Option("--leukocytes", metavar="FILE", help="Which classes are leukocytes: class,leukocyte (.csv)."),
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
    from leukoscope.differential.counts import CountOptions
    from leukoscope.differential.leukocytes import Leukocytes
    from leukoscope.differential.many import TABLE, classify_each
    from leukoscope.differential.ranges import ReferenceRanges
    from leukoscope.report.sample_page import write_sample_report

    cells = CellSet.open(cellset)
    cells = cells.where(only) if only else cells
    known = Leukocytes.read(leukocytes) if leukocytes else Leukocytes()
    options = CountOptions(total=total, ranges=ReferenceRanges.read(ranges), leukocytes=known, seed=seed)
    asked: dict[str, Any] = {
        "quality": quality, "options": options, "fhir": fhir, "batch": batch, "device": device, "overwrite": overwrite,
    }  # fmt: skip
    if by is not None:
        if total is not None:
            raise InputError("--total: is of one patient; give it without --by")
        samples = []
        for path in classify_each(cells, encoder, classifier, out, by=by, **asked):
            # Whoever classifies anew deletes the page with the folder.
            if not (path / "report.html").is_file():
                write_sample_report(path, ranges=options.ranges)
            samples.append(path)
        say(f"{out}: {len(samples)} samples, a folder each, and {TABLE}. For research use, and for review.")
        say_json(json, {"samples": [str(path) for path in samples]})
        return
    found = run(cells, encoder, classifier, out, **asked)
    write_sample_report(out, ranges=options.ranges)
    _say(out, found)
    say_json(json, {"run": str(out), **found})


def _say(out: Path, found: dict[str, Any]) -> None:
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
