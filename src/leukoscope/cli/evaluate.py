from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from leukoscope.cli.output import interval, percent, say, say_json, say_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from leukoscope.encoders.bundle import Encoder
    from leukoscope.encoders.features import Features

_FEATURES = "Features (.h5ad) of the same cells by one or more encoders; NAME=FILE names the encoder."
_RESCORE = "Score the predictions of an evaluation anew; its report then shows what --cells and --audit bring."
_SUPERVISED = "Also train from scratch in the same folds: mlp, resnet18, vit_small; may be repeated."
_FINETUNE = "Also fine-tune an encoder in the same folds, two-step; --set finetune.NAME.preset=full; may be repeated."
_PRETRAIN = "A CellSet that encoders were pre-trained on, searched for evaluated cells; may be repeated."
_RUN = "The pre-training run behind features, or its encoder: curves and Grad-CAM for the report; may be repeated."
_FEW = "Also fit heads on so few labelled cells of each training fold, drawn several times; draws: --set few.draws=5."
_CLASS_GROUPS = "Also score groups of classes: 'lymphoid=LYM,CLL;other=*', where * is the rest."
_AUDIT = "The audit.json of these cells, for the report."


def evaluate(
    features: Annotated[list[str] | None, typer.Argument(metavar="FEATURES...", help=_FEATURES)] = None,
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="Run folder to write.")] = None,
    rescore: Annotated[Path | None, typer.Option("--rescore", metavar="RUN", help=_RESCORE)] = None,
    label: LabelColumn = "label",
    labels: LabelsFile = None,
    group: GroupColumn = None,
    head: Heads = None,
    n_folds: NFolds = 5,
    repeats: Annotated[int, typer.Option("--repeats", help="Repetitions with other folds.", min=1)] = 1,
    seeds: Annotated[int, typer.Option("--seeds", help="Seeds of the heads to average over.", min=1)] = 1,
    folds: Annotated[Path | None, typer.Option("--folds", metavar="FILE", help="Folds made before.")] = None,
    supervised: Annotated[list[str] | None, typer.Option("--supervised", metavar="MODEL", help=_SUPERVISED)] = None,
    few: Annotated[str | None, typer.Option("--few-labels", metavar="N,N,...", help=_FEW)] = None,
    finetune: Annotated[list[str] | None, typer.Option("--finetune", metavar="NAME=ENCODER", help=_FINETUNE)] = None,
    cells: Annotated[Path | None, typer.Option("--cells", metavar="SET", help="The images of the cells.")] = None,
    pretrained_on: Annotated[list[Path] | None, typer.Option("--pretrained-on", metavar="SET", help=_PRETRAIN)] = None,
    runs: Annotated[list[Path] | None, typer.Option("--run", metavar="RUN", help=_RUN)] = None,
    audit: Annotated[Path | None, typer.Option("--audit", metavar="FILE", help=_AUDIT)] = None,
    task: Annotated[str, typer.Option("--task", help="What is told apart, for the report.")] = "",
    class_groups: Annotated[
        str | None, typer.Option("--class-groups", metavar="GROUP=CLASS,...;...", help=_CLASS_GROUPS)
    ] = None,
    n_bootstrap: NBootstrap = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    overrides: Overrides = None,
    maps: Annotated[bool, typer.Option(help="Draw the features as 2-D maps in the report.")] = True,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Fit heads on frozen features in cross-validation and score them: OUT/results.json, OUT/report.html."""
    from leukoscope.cells import folds as folds_file
    from leukoscope.cells.cellset import CellSet
    from leukoscope.cells.labels import Labels
    from leukoscope.common.errors import InputError
    from leukoscope.common.files import read_json
    from leukoscope.probes.evaluate import HEADS
    from leukoscope.probes.evaluate import evaluate as run
    from leukoscope.probes.finetune_folds import FinetunePlan
    from leukoscope.probes.inputs import EvaluateSettings, read_features
    from leukoscope.report.page import write_report
    from leukoscope.scores.class_groups import parse_groups
    from leukoscope.scores.rescore import rescore as again

    cellset = CellSet.open(cells) if cells else None
    audited = read_json(audit) if audit else None
    groups = parse_groups(class_groups) if class_groups else None
    if rescore is not None:
        results = again(rescore, groups=groups)
        _say_scores(results)
        _say_report(results, write_report(rescore, cellset=cellset, audit=audited), json)
        return
    if out is None or not features:
        raise InputError("evaluate: give FEATURES... and OUT, or --rescore RUN")
    found = read_features(features)
    settings = EvaluateSettings.of_flags(overrides or [], supervised or [], finetune or [], device=device, few=few)
    plans = {
        name: FinetunePlan.of(values, f"--set finetune.{name}", seed=seed, device=device)
        for name, values in settings.finetune.items()
    }
    encoders, history = _behind(found, runs or [])
    results = run(
        found,
        out,
        label=label,
        overlay=Labels.read(labels) if labels else None,
        group=group,
        heads=head or HEADS,
        n_folds=n_folds,
        repeats=repeats,
        seeds=range(seed, seed + seeds),
        folds=folds_file.read(folds) if folds else None,
        pretrain=[CellSet.open(path) for path in pretrained_on or []],
        task=task,
        groups=groups,
        n_bootstrap=n_bootstrap,
        seed=seed,
        settings=settings.probes,
        cellset=cellset,
        supervised=settings.supervised,
        few=settings.few,
        finetune=plans,
        overwrite=overwrite,
    )
    _say_scores(results)
    page = write_report(
        out,
        cellset=cellset,
        features=found,
        encoders=encoders,
        history=history,
        audit=audited,
        maps=maps,
    )
    _say_report(results, page, json)


def _behind(features: "Mapping[str, Features]", runs: "Iterable[Path]") -> "tuple[dict[str, Encoder], dict[str, Path]]":
    """Encoder and ``history.csv`` by the name of the features that each encoder made."""
    from leukoscope.common.errors import InputError
    from leukoscope.encoders.bundle import Encoder
    from leukoscope.training.history import histories

    encoders: dict[str, Encoder] = {}
    bundles: dict[str, Path] = {}
    for run in runs:
        bundle = run / "encoder" if (run / "encoder").is_dir() else run
        encoder = Encoder.load(bundle)
        made = [name for name, each in features.items() if each.uns.get("encoder_fingerprint") == encoder.fingerprint]
        if not made:
            raise InputError(f"--run {run}: none of the features were made by this encoder")
        encoders |= dict.fromkeys(made, encoder)
        bundles |= dict.fromkeys(made, bundle)
    return encoders, histories(bundles)


def _say_scores(results: dict[str, Any]) -> None:
    _say_table(results["scores"])
    if "groups" in results:
        of = results["groups"]["of"].items()
        say("class groups: " + "; ".join(f"{name} = {', '.join(classes)}" for name, classes in of))
        _say_table(results["groups"]["scores"])
    units = results["intervals"]
    say(f"{results['n']} cells, {results['folds']} folds; 95 % intervals over {units['units']} {units['resampled']}")
    for note in results.get("notes", []):
        say(f"note: {note}")


def _say_table(scores: dict[str, Any]) -> None:
    rows = [
        [f"{encoder} {head}", _with_interval(found["accuracy"]), *(percent(found[name]["mean"]) for name in _BESIDE)]
        for encoder, heads in scores.items()
        for head, found in heads.items()
    ]
    say_table(["encoder, head", "accuracy", "balanced accuracy", "F1"], rows)


def _say_report(results: dict[str, Any], page: Path, json: bool) -> None:
    say(str(page))
    say_json(json, {"report": str(page), "results": str(page.with_name("results.json")), "scores": results["scores"]})


_BESIDE = ("balanced_accuracy", "f1_macro")


def _with_interval(score: dict[str, Any]) -> str:
    return f"{percent(score['mean'])} {interval(score['low'], score['high'])}"
