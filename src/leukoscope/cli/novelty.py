from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import GroupColumn, Json, LabelColumn, LabelsFile, NFolds, Overwrite, Seed
from leukoscope.cli.output import percent, say, say_json, say_table

_OUT = "A kind to leave out of what is known; may be repeated. Every kind in turn, if left out."


def novelty(
    features: Annotated[Path, typer.Argument(metavar="FEATURES", help="Features of labelled cells.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The run folder to make.")],
    leave_out: Annotated[list[str] | None, typer.Option("--leave-out", metavar="KIND", help=_OUT)] = None,
    false_alarm: Annotated[
        float, typer.Option("--false-alarm", min=0.0001, max=0.5, help="Share of known cells that may pass the limit.")
    ] = 0.01,
    label: LabelColumn = "label",
    labels: LabelsFile = None,
    group: GroupColumn = None,
    n_folds: NFolds = 5,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Leave each kind of cells out of what is known, and see how well its cells are noticed as novel."""
    from leukoscope.cells.labels import Labels
    from leukoscope.differential.leaveout import leave_out as run
    from leukoscope.encoders.features import Features

    found = run(
        Features.read(features),
        out,
        kinds=leave_out or (),
        label=label,
        overlay=Labels.read(labels) if labels else None,
        group=group,
        n_folds=n_folds,
        false_alarm=false_alarm,
        seed=seed,
        overwrite=overwrite,
    )
    rows = [
        (row["kind"], row["measure"], row["unknown"], f"{row['roc_auc']:.3f}",
         "[{:.3f}, {:.3f}]".format(*row["interval"]),
         percent(row["false_alarm"]), percent(row["detected"]),
         *("-" if cells is None else cells for cells in row["noticed_from"].values()))
        for row in found["rows"]
    ]  # fmt: skip
    columns = ["left out", "measure", "cells", "ROC AUC", "95 %", "false alarms, %", "detected, %"]
    say_table([*columns, *(f"of {n}" for n in found["rows"][0]["noticed_from"])], rows, text=["measure"])
    say(f"{out}: of N: so many cells of the kind in a sample of N raise its flag with probability 0.95.")
    say_json(json, {"run": str(out), **found})
