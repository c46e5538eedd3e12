from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli import options
from leukoscope.cli.output import say, say_json

METHODS = (
    "moco, simclr, barlow_twins, vicreg, swav, deepcluster_v2, dino, dinov2, lejepa; with labels: supcon, supervised"
)


def pretrain(
    sets: Annotated[list[Path], typer.Argument(metavar="SET...", help="CellSets to learn from.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Run folder; the encoder is left in OUT/encoder.")],
    recipe: Annotated[Path | None, typer.Option("--recipe", metavar="FILE", help="Settings as YAML.")] = None,
    method: Annotated[str | None, typer.Option("--method", help=f"Pre-training method: {METHODS}.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Times every cell is seen.")] = None,
    size: options.Size = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Cells a batch, over all devices.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate.")] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", help="timm's name of the network.")] = None,
    policy: Annotated[str | None, typer.Option("--policy", help="Views: a policy's name, or a YAML file.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="auto, fp32, bf16, fp16.")] = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="COLUMN", help="Column of the class, for methods with labels.")
    ] = None,
    labels: options.LabelsFile = None,
    only: options.Only = None,
    weight: Annotated[
        list[float] | None,
        typer.Option("--weight", metavar="W", help="How often a CellSet is drawn; once for each, in their order."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")] = None,
    device: options.Device = "auto",
    devices: Annotated[int | None, typer.Option("--devices", help="Devices to train on together.")] = None,
    nodes: Annotated[int | None, typer.Option("--nodes", help="Machines to train on together.")] = None,
    overrides: options.Overrides = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Train an encoder, by most methods without labels. The same command again goes on with a run that was stopped."""
    from leukoscope.cells.cellset import CellSet
    from leukoscope.cells.labels import Labels
    from leukoscope.common.files import read_json
    from leukoscope.common.settings import read_yaml, with_overrides
    from leukoscope.methods.gather import rank
    from leukoscope.methods.pretrain import pretrain as run
    from leukoscope.methods.pretrain_settings import PretrainSettings

    given = {
        "method": method,
        "size": size,
        "backbone": backbone,
        "policy": policy,
        "label": label,
        "set_weights": weight or None,
        "train.epochs": epochs,
        "train.batch": batch,
        "train.lr": lr,
        "train.precision": precision,
        "train.seed": seed,
        "train.device": None if device == "auto" else device,
        "train.devices": devices,
        "train.nodes": nodes,
    }
    flags = [f"{key}={value}" for key, value in given.items() if value is not None]
    data = with_overrides(read_yaml(recipe) if recipe else {}, [*flags, *(overrides or [])])
    settings = PretrainSettings.parse(data, where="settings")
    opened = [CellSet.open(path) for path in sets]
    if only is not None:
        opened = [cellset.where(only) for cellset in opened]
    overlay = Labels.read(labels) if labels else None
    encoder = run(opened, out, settings=settings, overlay=overlay, overwrite=overwrite)
    if rank() > 0:
        return
    final = read_json(out / "results.json")["final"]
    say(f"{encoder}: {', '.join(f'{key} {value:.4g}' for key, value in final.items())}")
    say_json(json, {"encoder": str(encoder), **final})
