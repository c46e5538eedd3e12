from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import Device, Json, LabelColumn, NBootstrap, NFolds, Overrides, Overwrite, Seed
from leukoscope.cli.output import say, say_json
from leukoscope.cli.scores import say_cohort

_FEATURES = "Features of the patients' cells, [NAME=]FILE.h5ad, made by 'leukoscope embed'; may be repeated."
_PRETRAIN = "A CellSet that the encoder was pre-trained on, searched for the patients' cells; may be repeated."
_HEAD = (
    "Model of bags: class-attention, map-attention, abmil, abmil-dinobloom, mean, max; torchmil:NAME; or a baseline, "
    "mean-features, kind-shares; may be repeated."
)
_CELLS = "The CellSet that the features are of: the pages then show the cells that decided."
_CURVE = "Also train on so many patients of each fold, drawn three times: a learning curve over patients."
_GROUP = "Column whose bags are never parted. [default: patient, where bags are samples of patients]"
_KIND = "Column with the kind of a cell where it is known, to read attention by; models do not see it."
_SUSPECT = "Kind that attention is expected on, such as a malignant one; may be repeated."


def mil(
    features: Annotated[list[str], typer.Argument(metavar="[NAME=]FILE...", help=_FEATURES)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Run folder to write.")],
    bag: Annotated[
        str, typer.Option("--bag", metavar="COLUMN", help="Column that names a cell's patient.")
    ] = "patient",
    label: LabelColumn = "label",
    group: Annotated[str | None, typer.Option("--group", metavar="COLUMN", help=_GROUP)] = None,
    kind: Annotated[str | None, typer.Option("--kind", metavar="COLUMN", help=_KIND)] = None,
    suspect: Annotated[list[str] | None, typer.Option("--suspect", metavar="KIND", help=_SUSPECT)] = None,
    head: Annotated[list[str] | None, typer.Option("--head", metavar="NAME", help=_HEAD)] = None,
    n_folds: NFolds = 5,
    cells: Annotated[Path | None, typer.Option("--cells", metavar="SET", help=_CELLS)] = None,
    curve: Annotated[str | None, typer.Option("--curve", metavar="N,N,...", help=_CURVE)] = None,
    pages: Annotated[bool, typer.Option("--pages/--no-pages", help="Write a page for each patient.")] = True,
    pretrained_on: Annotated[list[Path] | None, typer.Option("--pretrained-on", metavar="SET", help=_PRETRAIN)] = None,
    repeat_seeds: Annotated[int, typer.Option("--seeds", min=1, help="How often each model is trained anew.")] = 3,
    n_bootstrap: NBootstrap = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Judge patients by their cells: attention-based multiple-instance learning in folds that keep patients whole."""
    from leukoscope.bags.crossval import HEADS, BagSettings
    from leukoscope.bags.curve import Curve
    from leukoscope.bags.mil import mil as run
    from leukoscope.cells.cellset import CellSet
    from leukoscope.common.settings import with_overrides
    from leukoscope.probes.inputs import read_features
    from leukoscope.report.cohort_page import write_cohort_report

    read = read_features(features)
    images = CellSet.open(cells) if cells else None
    results = run(
        read,
        out,
        bag=bag,
        label=label,
        group=group,
        kind=kind,
        suspect=suspect or (),
        heads=head or HEADS,
        n_folds=n_folds,
        seeds=range(repeat_seeds),
        settings=BagSettings.parse(with_overrides({"device": device}, overrides or []), where="--set"),
        curve=Curve.parse({"counts": curve.split(",")}, where="--curve") if curve else None,
        pretrain=[CellSet.open(path) for path in pretrained_on or []],
        n_bootstrap=n_bootstrap,
        seed=seed,
        overwrite=overwrite,
    )
    report = write_cohort_report(out, features=read, cellset=images, patients=pages, seed=seed)
    say_cohort(label, results)
    say(f"report: {report}")
    say_json(json, {"results": str(out / "results.json"), "report": str(report), "scores": results["scores"]})
