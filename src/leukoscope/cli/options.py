"""Options that mean the same in every verb, so that they are spelled the same."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from leukoscope.common.errors import InputError

Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random; the same seed gives the same numbers.")]
Jobs = Annotated[int, typer.Option("--jobs", help="Workers at once; 0 takes one a core.", min=0)]
Size = Annotated[int | None, typer.Option("--size", help="Side of the square images, in pixels.", min=8)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
LabelColumn = Annotated[
    str, typer.Option("--label", metavar="COLUMN", help="Column of the table that holds the class.")
]
LabelsFile = Annotated[
    Path | None, typer.Option("--labels", metavar="FILE", help="Labels (.csv or .parquet) laid over the table.")
]
GroupColumn = Annotated[
    str | None,
    typer.Option(
        "--group", metavar="COLUMN", help="Cells that share it stay in one fold; by default patient or slide; or none."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as train.lr; may be repeated."),
]
Only = Annotated[
    str | None,
    typer.Option("--only", metavar="COLUMN=VALUE", help="Take only the cells with this value in their table."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what the output path holds already.")]
Json = Annotated[bool, typer.Option("--json", help="End with one machine-readable line of JSON.")]
Heads = Annotated[
    list[str] | None,
    typer.Option(
        "--head",
        help="linear, mlp, knn, or as papers have them: "
        "linear-sgd, linear-dinobloom-text, knn-20, ...; may be repeated.",
    ),
]
NFolds = Annotated[int, typer.Option("--n-folds", help="Folds of the cross-validation.", min=2)]
NBootstrap = Annotated[int, typer.Option("--n-bootstrap", help="Resamples of the intervals.", min=0)]


def classifier_head(name: str) -> Literal["linear", "mlp", "best"]:
    """The head of a classifier by its name; ``best`` is for cross-validation to choose.

    Raises:
        InputError: when a classifier cannot have it.
    """
    if name == "linear":
        return "linear"
    if name == "mlp":
        return "mlp"
    if name == "best":
        return "best"
    raise InputError(f"--head {name}: a classifier has a linear or an mlp head, or the best of the two")
