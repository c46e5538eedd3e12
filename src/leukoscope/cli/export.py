from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leukoscope.cli.options import Json, Overwrite
from leukoscope.cli.output import say, say_json

if TYPE_CHECKING:
    from leukoscope.encoders.readout import Readout


def export(
    encoder: Annotated[Path, typer.Argument(metavar="ENCODER", help="An encoder bundle.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="OUT.onnx writes ONNX, any other name a folder for timm.")],
    classifier: Annotated[
        Path | None, typer.Option("--classifier", metavar="BUNDLE", help="ONNX: also give its class probabilities.")
    ] = None,
    cells: Annotated[
        Path | None, typer.Option("--cells", metavar="SET", help="ONNX: for cells such as these, compared on some.")
    ] = None,
    flips: Annotated[bool, typer.Option("--flips", help="ONNX: average over eight flips and quarter turns.")] = False,
    stages: Annotated[int, typer.Option("--stages", help="ONNX: read the last N stages side by side.", min=1)] = 1,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write an encoder for other programs: ONNX that takes raw pixels, or a checkpoint folder of timm."""
    from leukoscope.common.errors import InputError
    from leukoscope.encoders.readout import Readout

    readout = Readout(flips=flips, stages=stages)
    if out.suffix == ".onnx":
        _write_onnx(encoder, out, classifier, cells, readout, overwrite, json)
    elif classifier is not None or cells is not None or readout != Readout():
        raise InputError(f"{out}: --classifier, --cells, --flips and --stages are for ONNX; call it {out.name}.onnx")
    else:
        _write_folder(encoder, out, overwrite, json)


def _write_onnx(
    path: Path, out: Path, classifier: Path | None, cells: Path | None, readout: "Readout", overwrite: bool, json: bool
) -> None:
    from leukoscope.cells.cellset import CellSet
    from leukoscope.common.errors import InputError
    from leukoscope.differential.classifier import Classifier
    from leukoscope.encoders.bundle import Encoder
    from leukoscope.encoders.export_onnx import TOLERANCE, export_onnx
    from leukoscope.encoders.readout import Readout

    encoder, head = Encoder.load(path), None
    notes: dict[str, Any] = {}
    if classifier is not None:
        if readout != Readout():
            raise InputError("--classifier: it says itself how features are read; leave --flips and --stages out")
        fitted = Classifier.load(classifier)
        fitted.refuse_other(encoder)
        head, readout, notes = fitted.module(), fitted.info.readout, {"classes": fitted.info.classes}
    found = export_onnx(
        encoder,
        out,
        cells=None if cells is None else CellSet.open(cells),
        readout=readout,
        head=head,
        notes=notes,
        overwrite=overwrite,
    )
    say(
        f"{out}: {encoder.info.timm_name} as ONNX; on {found.cells} {'cells' if cells else 'random images'} features "
        f"differ from torch by up to {found.features:.1g} of their spread ({TOLERANCE:g} is allowed)"
    )
    if found.probabilities is not None:
        say(f"probabilities of {', '.join(fitted.info.classes)} differ by up to {found.probabilities:.1g}")
    say_json(json, {"onnx": str(out), **found._asdict(), "licence": encoder.info.licence})


def _write_folder(path: Path, out: Path, overwrite: bool, json: bool) -> None:
    from leukoscope.encoders.bundle import Encoder
    from leukoscope.encoders.export_timm import export_timm

    encoder = Encoder.load(path)
    difference = export_timm(encoder, out, overwrite=overwrite)
    name = encoder.info.timm_name
    say(f"{out}: {name} for timm; loaded by it, features differ by up to {difference:.1g} of their spread")
    say_json(json, {"folder": str(out), "difference": difference, "licence": encoder.info.licence})
