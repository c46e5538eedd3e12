from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import (
    Device,
    GroupColumn,
    Heads,
    Json,
    LabelColumn,
    LabelsFile,
    NBootstrap,
    NFolds,
    Overrides,
    Overwrite,
    Seed,
)
from leukoscope.cli.output import percent, say, say_json, say_table

_FEATURES = "Features (.h5ad) of the same cells by one or more encoders; NAME=FILE names the encoder."
_DATABASE = "Column that says where a cell was collected: a database, an instrument, a batch, a slide."


def sanity(
    features: Annotated[list[str], typer.Argument(metavar="FEATURES...", help=_FEATURES)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Run folder to write.")],
    database: Annotated[str, typer.Option("--database", metavar="COLUMN", help=_DATABASE)],
    suspect: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="A class whose training cells come from one place.")
    ] = None,
    home: Annotated[str | None, typer.Option("--home", metavar="VALUE", help="That place.")] = None,
    label: LabelColumn = "label",
    labels: LabelsFile = None,
    group: GroupColumn = None,
    head: Heads = None,
    n_folds: NFolds = 5,
    n_bootstrap: NBootstrap = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Test whether features know the cell or the database that it came from."""
    from leukoscope.cells.labels import Labels
    from leukoscope.probes.databases import sanity as run
    from leukoscope.probes.databases import sanity_table
    from leukoscope.probes.inputs import EvaluateSettings, read_features
    from leukoscope.report.sanity_page import write_sanity_report

    results = run(
        read_features(features),
        out,
        database=database,
        suspect=suspect,
        home=home,
        label=label,
        overlay=Labels.read(labels) if labels else None,
        group=group,
        heads=head or ("linear",),
        n_folds=n_folds,
        n_bootstrap=n_bootstrap,
        settings=EvaluateSettings.of_flags(overrides or [], [], device=device).probes,
        seed=seed,
        overwrite=overwrite,
    )
    page = write_sanity_report(out)
    batch = results["batch"]
    say_table(
        [f"{database} told from", "accuracy"],
        [
            *([name, percent(found["accuracy"]["mean"])] for name, found in batch["encoders"].items()),
            ["the class alone", percent(batch["from_label"])],
            ["nothing (the largest)", percent(batch["majority"])],
        ],
    )
    say(
        f"the class told from {database} alone: {percent(batch['label_from_batch'])}, "
        f"from nothing: {percent(batch['label_majority'])}"
    )
    if results["sanity"] is not None:
        table = sanity_table(results["sanity"]["scores"])
        rows = [[*row[:3], *map(percent, row[3:])] for row in table.itertuples(index=False)]
        say_table(list(table.columns), rows, text=("head", "tested on"))
    say(f"report: {page}")
    say_json(json, {"results": str(out / "results.json"), "report": str(page), **results})
