from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import GroupColumn, Json, LabelColumn, LabelsFile, Overwrite, Seed, classifier_head
from leukoscope.cli.output import say, say_json, say_table


def fit(
    features: Annotated[Path, typer.Argument(metavar="FEATURES", help="Features of labelled cells, .h5ad.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The classifier bundle to make.")],
    head: Annotated[
        str, typer.Option("--head", help="linear, mlp, or best: the one of less log loss in the folds.")
    ] = "linear",
    label: LabelColumn = "label",
    labels: LabelsFile = None,
    cells: Annotated[
        Path | None,
        typer.Option("--cells", metavar="SET", help="The CellSet of FEATURES: learns which images are set aside."),
    ] = None,
    false_alarm: Annotated[
        float, typer.Option("--false-alarm", help="Share of good cells of any class that --cells may set aside.")
    ] = 0.01,
    group: GroupColumn = None,
    folds: Annotated[int, typer.Option("--folds", help="Folds that calibrate it and count its errors.", min=2)] = 5,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Fit a calibrated classifier on the features of labelled cells."""
    from leukoscope.cells.cellset import CellSet
    from leukoscope.cells.labels import Labels
    from leukoscope.differential.fit import fit as run
    from leukoscope.encoders.features import Features

    classifier = run(
        Features.read(features),
        out,
        head=classifier_head(head),
        label=label,
        overlay=Labels.read(labels) if labels else None,
        cells=CellSet.open(cells) if cells else None,
        false_alarm=false_alarm,
        group=group,
        n_folds=folds,
        seed=seed,
        overwrite=overwrite,
    )
    info = classifier.info
    rows = [
        (name, sum(row), f"{100 * row[k] / sum(row):.1f}")
        for k, (name, row) in enumerate(zip(info.classes, info.confusion, strict=True))
    ]
    say_table(["class", "cells", "found, %"], rows)
    scores = info.cross_validated
    say(
        f"{out}: {info.head} head, accuracy {100 * scores['accuracy']:.1f} % in {info.folds} folds, "
        f"calibration error {100 * scores['ece']:.1f} -> {100 * scores['ece_calibrated']:.1f} %"
    )
    say_json(json, {"classifier": str(out), "classes": list(info.classes), **scores})
