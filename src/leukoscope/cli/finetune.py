from pathlib import Path
from typing import Annotated, Any

import typer

from leukoscope.cli import options
from leukoscope.cli.output import interval, percent, say, say_json, say_table
from leukoscope.common.errors import InputError

_ENCODER = "Where to start: an encoder bundle; or random:NAME, imagenet:NAME, imagenet:NAME@FILE with a timm NAME."
_PRESET = "two-step (head, then all), frozen (head alone), full (all, rate in steps), or scratch (from random weights)."
_SPLIT = "Column that says train, val or test; by default split, where it does; none draws the test cells."
_PRETRAIN = "A CellSet that the encoder was pre-trained on, searched for test cells; may be repeated."
_MOST = "Training cells of a class, at most; 5000 in the presets."


def finetune(
    cellset: Annotated[Path, typer.Argument(metavar="SET", help="A CellSet of labelled cells.")],
    encoder: Annotated[str, typer.Argument(metavar="ENCODER", help=_ENCODER)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Run folder; OUT/encoder and OUT/classifier to keep.")],
    preset: Annotated[str | None, typer.Option("--preset", metavar="NAME", help=_PRESET)] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", metavar="FILE", help="Settings as YAML, laid over a preset if given.")
    ] = None,
    label: options.LabelColumn = "label",
    labels: options.LabelsFile = None,
    group: options.GroupColumn = None,
    split: Annotated[str | None, typer.Option("--split", metavar="COLUMN", help=_SPLIT)] = None,
    test_share: Annotated[
        float, typer.Option("--test-share", help="Share of the cells to test on, where no column says.")
    ] = 0.2,
    validation_share: Annotated[
        float | None, typer.Option("--validation-share", help="Share of the other cells to choose by; 0.2 in presets.")
    ] = None,
    max_per_class: Annotated[int | None, typer.Option("--max-per-class", help=_MOST)] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Cells a batch.")] = None,
    policy: Annotated[str | None, typer.Option("--policy", help="Views: a policy's name, or a YAML file.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="auto, fp32, bf16.")] = None,
    pretrained_on: Annotated[list[Path] | None, typer.Option("--pretrained-on", metavar="SET", help=_PRETRAIN)] = None,
    only: options.Only = None,
    size: options.Size = None,
    n_bootstrap: options.NBootstrap = 1000,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")] = None,
    device: options.Device = "auto",
    overrides: options.Overrides = None,
    maps: Annotated[bool, typer.Option(help="Draw the features of the test cells as 2-D maps in the report.")] = True,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Train an encoder and a head on labelled cells, and test them once: OUT/results.json, OUT/report.html."""
    import numpy as np

    from leukoscope.cells.cellset import CellSet
    from leukoscope.cells.labels import Labels
    from leukoscope.common.settings import read_yaml
    from leukoscope.differential.finetune import finetune as run
    from leukoscope.encoders.baselines import open_encoder
    from leukoscope.encoders.bundle import Encoder
    from leukoscope.encoders.embed import embed
    from leukoscope.probes.presets import DEFAULT, stage_settings
    from leukoscope.report.page import write_report
    from leukoscope.scores import predictions

    given = {
        "inner_share": validation_share,
        "max_per_class": max_per_class,
        "batch": batch,
        "policy": policy,
        "precision": precision,
        "seed": seed,
        "device": None if device == "auto" else device,
    }
    flags = [f"{key}={value}" for key, value in given.items() if value is not None]
    preset = preset or (None if recipe else DEFAULT)
    settings = stage_settings(
        preset, read_yaml(recipe) if recipe else {}, "settings", overrides=[*flags, *(overrides or [])]
    )
    cells = CellSet.open(cellset)
    cells = cells.where(only) if only else cells
    name = recipe.stem if recipe else str(preset)
    start = open_encoder(encoder, cells, size=size, seed=settings.seed)
    if preset == "scratch" and start.info.method != "random":
        raise InputError(
            f"--preset scratch: starts from random weights; give random:{start.info.timm_name} for {encoder}"
        )
    results = run(
        cells,
        start,
        out,
        settings=settings,
        name=name,
        label=label,
        overlay=Labels.read(labels) if labels else None,
        group=group,
        split=split,
        test_share=test_share,
        pretrain=[CellSet.open(path) for path in pretrained_on or []],
        n_bootstrap=n_bootstrap,
        overwrite=overwrite,
    )
    _say_parts(results)
    tested = cells.select(np.isin(cells.ids, predictions.read(out / "predictions.parquet")["cell_id"]))
    features = {name: embed(tested, Encoder.load(out / "encoder"), device=settings.device)} if maps else None
    page = write_report(out, cellset=tested, features=features, maps=maps, seed=settings.seed)
    say(str(page))
    told = {key: results[key] for key in ("parts", "drop", "selection")}
    say_json(
        json, {"encoder": str(out / "encoder"), "classifier": str(out / "classifier"), "report": str(page), **told}
    )


def _say_parts(results: dict[str, Any]) -> None:
    rows = [
        [part, told["n"], f"{told['log_loss']['value']:.3f}", _with_interval(told["accuracy"])]
        + [percent(told[metric]["value"]) for metric in ("balanced_accuracy", "f1_macro")]
        for part, told in results["parts"].items()
    ]
    say_table(["cells", "n", "loss", "accuracy", "balanced accuracy", "F1"], rows)
    for name, moved in results["drop"].items():
        accuracy, loss = moved["accuracy"], moved["log_loss"]["difference"]
        say(
            f"{name.replace('_', ' ')}: accuracy {100 * accuracy['difference']:+.1f} points "
            f"({100 * accuracy['relative']:+.1f} %), loss {loss:+.3f}"
        )
    chosen = results["selection"]
    rates, epochs = (" then ".join(f"{value:g}" for value in chosen[key]) for key in ("rates", "epochs"))
    say(
        f"learning rate {rates}, for {epochs} epochs; train is what the network has seen, training and validation cells"
    )
    for note in results["notes"]:
        say(f"note: {note}")


def _with_interval(score: dict[str, Any]) -> str:
    return f"{percent(score['value'])} {interval(score['low'], score['high'])}"
