from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import Jobs, Json, Overrides, Overwrite, Size
from leukoscope.cli.output import say, say_json, say_table


def datasets(
    name: Annotated[str | None, typer.Argument(help="One set, as the list of all calls it.")] = None,
    out: Annotated[Path | None, typer.Argument(help="The CellSet to write.")] = None,
    *,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="A downloaded copy of the set, whole or in part.")
    ] = None,
    size: Size = None,
    overrides: Overrides = None,
    jobs: Jobs = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """List published sets of cells, tell what one holds and how to cite it, or pack a downloaded copy of it.

    Nothing is downloaded. Packing prints the cells a class beside what the papers state; --set takes any key of pack.
    """
    from leukoscope.cells.datasets.catalogue import catalogue, find
    from leukoscope.cells.datasets.describe import describe, summary
    from leukoscope.common.errors import InputError

    if (source is None) != (out is None) or (source is None and (size or overrides)):
        raise InputError("packing needs all three: leukoscope datasets NAME --from DIR OUT")
    if name is None:
        say_table(
            ("name", "cells", "classes", "licence", "page"),
            [summary(entry) for entry in catalogue().values()],
            text=("licence", "page"),
        )
        say_json(json, {"datasets": list(catalogue())})
        return
    entry = find(name)
    if source is None or out is None:
        for line in describe(entry):
            say(line)
        say_json(json, entry.model_dump(mode="json"))
        return
    _pack(name, source, out, size=size, overrides=overrides or [], jobs=jobs, overwrite=overwrite, json=json)


def _pack(
    name: str,
    source: Path,
    out: Path,
    *,
    size: int | None,
    overrides: list[str],
    jobs: int,
    overwrite: bool,
    json: bool,
) -> None:
    from leukoscope.cells.datasets.catalogue import find
    from leukoscope.cells.datasets.compare import beside
    from leukoscope.cells.datasets.pack import pack_dataset
    from leukoscope.common.settings import with_overrides

    given = with_overrides({} if size is None else {"size": size}, overrides)
    report = pack_dataset(find(name), source, out, given=given, jobs=jobs, overwrite=overwrite)
    if report.counts:
        say_table(*beside(report.counts, report.entry))
    for line in report.lines():
        say(f"{out}: {line}")
    say_json(json, report.as_dict())
