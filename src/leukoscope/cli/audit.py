from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import GroupColumn, Json, LabelColumn, LabelsFile
from leukoscope.cli.output import say, say_json, say_table


def audit(
    sets: Annotated[list[Path], typer.Argument(metavar="SET...", help="CellSets that are evaluated.")],
    pretrain: Annotated[
        list[Path] | None,
        typer.Option("--pretrain", metavar="SET", help="CellSet that was pre-trained on; may be repeated."),
    ] = None,
    near: Annotated[bool, typer.Option("--near", help="Also find near duplicates by perceptual hash.")] = False,
    folds: Annotated[
        Path | None, typer.Option("--folds", metavar="FILE", help="Folds (folds.parquet) to check as well.")
    ] = None,
    label: LabelColumn = "label",
    labels: LabelsFile = None,
    group: GroupColumn = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the findings are written.")] = Path(
        "audit.json"
    ),
    json: Json = False,
) -> None:
    """Look for duplicates, leaks and spoiled images; exit 1 where an evaluation would be spoiled."""
    from leukoscope.cells import folds as fold_files
    from leukoscope.cells.audit import audit as look
    from leukoscope.cells.cellset import CellSet
    from leukoscope.cells.labels import Labels
    from leukoscope.common.files import write_json

    report = look(
        [CellSet.open(path) for path in sets],
        pretrain=[CellSet.open(path) for path in pretrain or ()],
        near=near,
        group=group,
        label=label,
        overlay=Labels.read(labels) if labels else None,
        folds=fold_files.read(folds) if folds else None,
    )
    say_table(("severity", "finding", "set", "cells", "detail"), report.rows(), text=("finding", "set", "detail"))
    write_json(out, report.as_dict())
    say(f"findings with examples: {out}")
    say_json(json, {"out": str(out), **report.as_dict()})
    report.refuse()
