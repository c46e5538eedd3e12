from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import Json, Overwrite, Seed
from leukoscope.cli.output import interval, percent, say, say_json, say_table
from leukoscope.common.errors import InputError

_SAMPLE = "Run folders of 'leukoscope classify', in the order of the trend, and last the run folder to make."
_ONE = "Whether the samples are of one patient, measured alike; by default as the tables of their cells say."


def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="SAMPLE... OUT", help=_SAMPLE)],
    one_patient: Annotated[bool | None, typer.Option("--one-patient/--several-patients", help=_ONE)] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Set classified samples side by side: a trend, and each one's difference from the first."""
    from leukoscope.differential.compare import compare as run
    from leukoscope.differential.sample import Sample
    from leukoscope.report.comparison_page import write_comparison_report

    *given, out = paths
    names = [path.resolve().name for path in given]
    if len(set(names)) < len(names):
        raise InputError("compare: two samples have the same name; name their folders apart")
    samples = {name: Sample.open(path) for name, path in zip(names, given, strict=True)}
    found = run(samples, out, one_patient=one_patient, seed=seed, overwrite=overwrite)
    write_comparison_report(out)
    rows = []
    for kind in found["classes"]:
        own = [row for row in found["rows"] if row["class"] == kind]
        shares = [row["leukocytes"] or row["cells"] for row in own]
        told = (f"{percent(each['share'])} {interval(each['low'], each['high'])}" for each in shares)
        rows.append((kind if own[0]["leukocytes"] else f"{kind}, of all cells", *told))
    say_table(["class", *found["samples"]], rows)
    say(f"{out}: shares of the leukocytes in per cent, with 95 % intervals for the patient; more is on the page.")
    say_json(json, {"run": str(out), **found})
