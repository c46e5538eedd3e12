from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import Jobs, Json, Overwrite, Size
from leukoscope.cli.output import say, say_json


def pack(
    source: Annotated[
        Path, typer.Argument(help="Folder of images, table (.csv, .tsv, .parquet), TIFF, .npz or .rtdc.")
    ],
    out: Annotated[Path, typer.Argument(help="The CellSet to write.")],
    *,
    reader: Annotated[str | None, typer.Option(help="Kind of the source, where it is not seen by itself.")] = None,
    size: Size = None,
    fit: Annotated[
        str | None, typer.Option(metavar="pad|crop|resize", help="Rule that brings images of any size to one.")
    ] = None,
    centre: Annotated[int | None, typer.Option(help="Keep the middle PX pixels of each image first.")] = None,
    tile: Annotated[int | None, typer.Option(help="The images are montages of tiles with this side.")] = None,
    channels: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]PATTERN", help="Join files of one image: once a channel, such as 'Ch3_*.tif'."),
    ] = None,
    pages: Annotated[str | None, typer.Option(metavar="cells|channels", help="What the pages of a TIFF are.")] = None,
    crop: Annotated[int | None, typer.Option(help="Cut squares of this side around a table's centroids x, y.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that a table's paths start from (default: its own).")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NEW=OLD", help="Rename a table's column; may be repeated: label='class label'."),
    ] = None,
    path_template: Annotated[
        str | None, typer.Option(help="How a table without a column path names its files: '{image ID:03d}.bmp'.")
    ] = None,
    from_path: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Columns from relative paths, by named groups: '(?P<patient>P[0-9]+)_'."),
    ] = None,
    label_from_prefix: Annotated[
        bool, typer.Option("--label-from-prefix", help="The class is what stands before the first _ of a file's name.")
    ] = False,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NEW=OLD", help="Rename a class; may be repeated: neutrophil=1."),
    ] = None,
    agree: Annotated[
        int | None, typer.Option(help="Keep rows that at least N experts labelled, all alike.", metavar="N")
    ] = None,
    experts: Annotated[str | None, typer.Option(metavar="PATTERN", help="Names of the experts' columns.")] = None,
    bit_depth: Annotated[int | None, typer.Option(help="Bits that the camera used, such as 12 in 16.")] = None,
    to_8_bit: Annotated[bool, typer.Option("--to-8-bit", help="Reduce to 8 bit; --bit-depth says from what.")] = False,
    intensity: Annotated[
        str | None, typer.Option(metavar="bit_depth|percentile", help="What counts as black and as white.")
    ] = None,
    percentiles: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Percentiles that --intensity percentile takes (by default 0.1 99.9)."),
    ] = None,
    pixel_size_um: Annotated[float | None, typer.Option(help="Side of a pixel, as packed, in micrometres.")] = None,
    max_pixels: Annotated[
        int | None, typer.Option(help="Refuse images with more pixels (by default 8 million, montages and fields 64).")
    ] = None,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Take files outside the source (links, absolute paths).")
    ] = False,
    jobs: Jobs = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Pack images of cells into one CellSet: pixels as acquired, a table, and a list of what could not be read.

    Sub-folders are classes. What cannot be read is set aside in rejected.csv with its reason; the rest is packed.
    """
    from leukoscope.cells.cellset import CellSet
    from leukoscope.cells.pack import PackReport, PackSettings
    from leukoscope.cells.pack import pack as pack_cells
    from leukoscope.cells.pack_settings import LABEL_PREFIX, class_names
    from leukoscope.common.errors import InputError
    from leukoscope.common.runs import log

    if label_from_prefix and from_path:
        raise InputError("--label-from-prefix is a --from-path of its own: give one of them")
    given = {
        "reader": reader,
        "size": size,
        "fit": fit,
        "centre": centre,
        "tile": tile,
        "channels": channels,
        "pages": pages,
        "crop": crop,
        "root": root,
        "columns": column,
        "path_template": path_template,
        "from_path": LABEL_PREFIX if label_from_prefix else from_path,
        "names": class_names(classes) if classes else None,
        "agree": agree,
        "experts": experts,
        "bit_depth": bit_depth,
        "to_8_bit": to_8_bit or None,
        "intensity": intensity or ("percentile" if percentiles else None),
        "percentiles": percentiles,
        "pixel_size_um": pixel_size_um,
        "max_pixels": max_pixels,
        "allow_outside": allow_outside or None,
    }
    chosen = {key: value for key, value in given.items() if value is not None}
    settings = PackSettings.parse(chosen, where="pack")
    report: PackReport = pack_cells(source, out, settings=settings, jobs=jobs, overwrite=overwrite)
    there = set(CellSet.open(out).cells.get("label", ())) if classes else set()
    for new in dict.fromkeys(pair.partition("=")[0] for pair in classes or ()):
        if new not in there:
            log.warning("--class %s=...: no cell is of the class that it renames; is it misspelt?", new)
    for line in report.lines():
        say(f"{out}: {line}")
    say_json(json, report.as_dict())
