from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli import options


def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the demonstration.")] = Path("demo"),
    overrides: options.Overrides = None,
    jobs: options.Jobs = 0,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Walk the whole way on simulated cells, offline, in a few minutes: from pixels to a counted sample."""
    from leukoscope.cli.study import study
    from leukoscope.common.runs import clear_run

    if overwrite:
        clear_run(out, "study")
    with as_file(files("leukoscope.study") / "demo.yaml") as recipe:
        study(recipe, out, overrides=overrides, jobs=jobs, json=json)
