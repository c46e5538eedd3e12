from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import Jobs, Json, Overwrite, Size
from leukoscope.cli.output import say, say_json

_Reader = Annotated[
    str | None, typer.Option("--reader", metavar="NAME", help="Kind of the source, where it is not found by itself.")
]
_Fit = Annotated[
    str | None,
    typer.Option("--fit", metavar="pad|crop|resize", help="Rule that brings images of other sizes to --size."),
]


def pack(
    source: Annotated[Path, typer.Argument(help="Folder of images, table, TIFF, .npz or .rtdc.")],
    out: Annotated[Path, typer.Argument(help="The CellSet to write.")],
    reader: _Reader = None,
    size: Size = None,
    fit: _Fit = None,
    tile: Annotated[int | None, typer.Option("--tile", help="t")] = None,
    channels: Annotated[list[str] | None, typer.Option("--channels", help="t")] = None,
    jobs: Jobs = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Pack images of cells into one CellSet: pixels as acquired, a table, and a list of what could not be read."""
    from leukoscope.cells.pack import PackSettings
    from leukoscope.cells.pack import pack as pack_cells

    given = {"reader": reader, "size": size, "fit": fit, "tile": tile, "channels": channels or None}
    settings = PackSettings.parse({key: value for key, value in given.items() if value is not None}, where="pack")
    report = pack_cells(source, out, settings=settings, jobs=jobs, overwrite=overwrite)
    say(f"{out}: {report.packed} cells packed, {report.rejected} rejected, {report.dropped_padding} padding dropped")
    for reason, count in report.reasons.items():
        say(f"  rejected {count}: {reason}")
    answer = {
        "packed": report.packed,
        "rejected": report.rejected,
        "dropped_padding": report.dropped_padding,
        "reasons": report.reasons,
    }
    say_json(json, answer)
