from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import GroupColumn, Json, LabelColumn, LabelsFile, Overwrite, Seed, classifier_head
from leukoscope.cli.output import percent, say, say_json, say_table

_PLAN = "What patients are made of: simulated, blood-smear, or a plan (.yaml) as of 'leukoscope cohort'."
_TYPE = "A type of patient of the plan, such as healthy; may be repeated."
_SHIFTED = "Features of labelled cells of another stain or instrument, to draw samples from as well."
_WHOLE = "Features of labelled cells of whole patients, whose cells are not mixed: each is a sample."


def coverage(
    features: Annotated[Path, typer.Argument(metavar="FEATURES", help="Features of labelled cells.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The run folder to make.")],
    plan: Annotated[str, typer.Option("--plan", help=_PLAN)] = "simulated",
    composition: Annotated[list[str] | None, typer.Option("--composition", metavar="TYPE", help=_TYPE)] = None,
    shifted: Annotated[Path | None, typer.Option("--shifted", metavar="FEATURES", help=_SHIFTED)] = None,
    whole: Annotated[Path | None, typer.Option("--whole", metavar="FEATURES", help=_WHOLE)] = None,
    head: Annotated[str, typer.Option("--head", help="linear, mlp or best.")] = "linear",
    label: LabelColumn = "label",
    labels: LabelsFile = None,
    group: GroupColumn = None,
    n: Annotated[list[int] | None, typer.Option("--n", min=20, help="Cells of a sample; may be repeated.")] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Samples of each size.")] = 2000,
    splits: Annotated[int, typer.Option("--splits", min=1, help="How often the cells are dealt in two.")] = 20,
    audit: Annotated[int, typer.Option("--audit", min=0, help="Cells of a sample that a person has seen.")] = 100,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Draw samples of known composition from labelled cells, and see how often the counts' intervals cover it."""
    from leukoscope.cells.cohorts.plan import read_plan
    from leukoscope.cells.composition import Compositions
    from leukoscope.cells.labels import Labels
    from leukoscope.cells.simulator.composition import COMPOSITIONS
    from leukoscope.differential.coverage import coverage as run
    from leukoscope.encoders.features import Features

    given = None if plan == "simulated" else read_plan(plan)
    found = run(
        Features.read(features),
        out,
        COMPOSITIONS if given is None else Compositions(given.reference, given.types),
        types=composition or ["healthy"],
        shifted=Features.read(shifted) if shifted else None,
        whole=Features.read(whole) if whole else None,
        head=classifier_head(head),
        label=label,
        overlay=Labels.read(labels) if labels else None,
        group=group,
        sizes=n or (200, 500, 2000),
        samples=samples,
        splits=splits,
        audit=audit,
        seed=seed,
        overwrite=overwrite,
    )
    intervals = ("wilson", "composition", "patient", "audited_composition", "audited_patient")
    rows = [
        (row["condition"], row["n"], f"{row['raw_error']:.3f}", f"{row['corrected_error']:.3f}",
         *(f"{percent(row[each]['mean'])} ({percent(row[each]['least'])})" if row[each]["mean"] is not None else "-"
           for each in intervals))
        for row in found["summary"]
    ]  # fmt: skip
    say_table(["samples", "cells", "raw error", "corrected", *(each.replace("_", " ") for each in intervals)], rows)
    say(f"{out}: errors summed over classes; coverage of 95 % intervals over classes, and of the worst class.")
    say_json(json, {"run": str(out), "summary": found["summary"]})
