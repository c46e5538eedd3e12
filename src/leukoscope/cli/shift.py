from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leukoscope.cli.options import (
    Device,
    GroupColumn,
    Heads,
    Json,
    LabelColumn,
    NBootstrap,
    NFolds,
    Overrides,
    Overwrite,
    Seed,
)
from leukoscope.cli.output import interval, percent, say, say_json, say_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leukoscope.encoders.features import Features

_KNOWN = "Features of the known, labelled cells; NAME=FILE names the encoder. May be repeated."
_NEW = "Features of the new cells by the same encoder, NAME=FILE, or NAME+REMEDY=FILE where they were treated."
_CLASS = "A class that takes part; may be repeated. All that both sets have, if left out."
_NEW_GROUP = "A column of the new cells whose cells are resampled together."


def shift(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Run folder to write.")],
    known: Annotated[list[str], typer.Option("--known", metavar="[NAME=]FILE", help=_KNOWN)],
    new: Annotated[list[str], typer.Option("--new", metavar="NAME=FILE", help=_NEW)],
    label: LabelColumn = "label",
    classes: Annotated[list[str] | None, typer.Option("--class", metavar="NAME", help=_CLASS)] = None,
    group: GroupColumn = None,
    new_group: Annotated[str | None, typer.Option("--new-group", metavar="COLUMN", help=_NEW_GROUP)] = None,
    head: Heads = None,
    n_folds: NFolds = 5,
    n_bootstrap: NBootstrap = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Fit heads on cells of one origin and test them on cells of another: scores of both, and the drop between them."""
    from leukoscope.probes.inputs import EvaluateSettings, read_features
    from leukoscope.probes.shift import shift as run
    from leukoscope.report.shifted_page import write_shift_report

    found, strangers = read_features(known), read_features(new)
    results = run(
        found,
        {name: _of(name, strangers) for name in found},
        out,
        label=label,
        classes=classes or None,
        groups=(group, new_group),
        heads=head or ("linear", "knn"),
        n_folds=n_folds,
        n_bootstrap=n_bootstrap,
        settings=EvaluateSettings.of_flags(overrides or [], [], device=device).probes,
        seed=seed,
        overwrite=overwrite,
    )
    page = write_shift_report(out)
    rows = [
        _row(f"{encoder} {name}", metrics["accuracy"])
        for encoder, heads in results["drop"].items()
        for name, metrics in heads.items()
    ]
    say_table(["encoder, head", "accuracy, known", "new", "drop", "95 % interval"], rows)
    say(f"{results['n']['known']} known and {results['n']['new']} new cells of {', '.join(results['classes'])}")
    say(f"report: {page}")
    say_json(json, {"results": str(out / "results.json"), "report": str(page), "drop": results["drop"]})


def _of(name: str, strangers: "Mapping[str, Features]") -> "dict[str, Features]":
    """The new cells' features by one encoder, by what was done about them."""
    from leukoscope.common.errors import InputError

    own = {key.partition("+")[2]: each for key, each in strangers.items() if key.partition("+")[0] == name}
    if "" not in own:
        raise InputError(f"--new: no features of the new cells by encoder {name}; give --new {name}=FILE")
    return own


def _row(name: str, accuracy: dict[str, Any]) -> list[str]:
    shares = (percent(accuracy[key]) for key in ("known", "new", "drop"))
    return [name, *shares, interval(accuracy["low"], accuracy["high"])]
