from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from lightning.fabric.utilities import rank_zero_only
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.labels import Labels, labels_of
from leukoscope.common.errors import InputError
from leukoscope.common.files import read_json, refuse_folder
from leukoscope.common.runs import RunFolder, clear_run, log, run_folder, run_mark
from leukoscope.common.settings import read_yaml
from leukoscope.encoders.backbone import create_backbone, outline
from leukoscope.encoders.bundle import Encoder, EncoderInfo
from leukoscope.encoders.stem import match_stem
from leukoscope.encoders.timminfo import config_of
from leukoscope.methods.classes import Classes, known_classes
from leukoscope.methods.kept import keep
from leukoscope.methods.pretrain_settings import PretrainSettings
from leukoscope.methods.registry import entry
from leukoscope.training.checkpoint import refuse_changed
from leukoscope.training.loop import fit
from leukoscope.training.method import Method
from leukoscope.training.monitors import Monitor
from leukoscope.training.precision import create_fabric
from leukoscope.training.sharding import gathered, whole
from leukoscope.training.source import Batches
from leukoscope.views.augment import Augment
from leukoscope.views.preprocess import Preprocess

# What may differ when a run is taken up again: it changes no number.
_FREE = ("device", "log_steps", "checkpoint_minutes")
# What a run's recipe tells of its cells, beside the settings.
_OF_THE_CELLS = ("cells", "labels")


def pretrain(
    sets: Sequence[CellSet],
    out: Path,
    *,
    settings: PretrainSettings | None = None,
    method: str | None = None,
    overlay: Labels | None = None,
    overwrite: bool = False,
) -> Path:
    """Train an encoder, by most methods on cells without labels; returns its bundle, ``out/encoder``.

    ``out`` is a run folder with ``history.csv``, ``steps.csv``, ``checkpoint.pt`` and ``results.json``. Killed at any
    moment, the same call goes on; finished, it says so and trains nothing.

    Args:
        sets: CellSets that share channels, pixel type, image size and intensity rule.
        out: the run folder.
        settings: what to do; None takes the defaults, those of the paper on imaging flow cytometry.
        method: another method than that of ``settings``, with its defaults.
        overlay: labels laid over the table's, for methods that use labels; these train on labelled cells alone.
        overwrite: start again where ``out`` holds such a run already.

    Raises:
        InputError: when a setting is wrong or differs from those the run began with, or the cells do not fit.
        CheckFailed: when the run collapses.
    """
    settings = settings or PretrainSettings()
    if method is not None and method != settings.method:
        settings = PretrainSettings.parse({**dict(settings), "method": method, "method_settings": {}}, where="method")
    classes = None
    if entry(settings.method).method.uses_labels:
        sets, classes = known_classes(sets, column=settings.label, overlay=overlay)
    recipe = {**settings.model_dump(mode="json"), "cells": [cellset.pixels_fingerprint for cellset in sets]}
    if classes is not None:
        recipe["labels"] = classes.fingerprint
    if overwrite:
        rank_zero_only(_clear)(sets, out, settings)
    if _finished(out, recipe):
        return out / "encoder"
    fabric = create_fabric(settings.train, outline(settings.backbone))
    fabric.launch()
    if not fabric.is_global_zero:
        _train(fabric, sets, out, settings, classes)
        return out / "encoder"
    with run_folder(out, verb="pretrain", settings=recipe, seed=settings.train.seed, resumable=True) as run:
        for cellset in sets:
            run.fingerprint(cellset.path.name, cellset.pixels_fingerprint)
        encoder, numbers = _train(fabric, sets, out, settings, classes)
        encoder.save(out / "encoder", overwrite=True)
        _finish(run, sets, settings, numbers)
    return out / "encoder"


def _train(
    fabric: Fabric, sets: Sequence[CellSet], out: Path, settings: PretrainSettings, classes: Classes | None
) -> tuple[Encoder, dict[str, float]]:
    train = settings.train
    source = Batches(
        sets,
        train.batch,
        train.seed,
        rank=fabric.global_rank,
        world=fabric.world_size,
        weights=settings.set_weights,
        balance=classes.codes if classes is not None and train.balance else None,
        pin=fabric.device.type == "cuda",
    )
    mean, std = _normalisation(sets, settings)
    prepare = Preprocess(settings.size, sets[0].info.intensity, mean, std).to(fabric.device)
    augment = Augment(settings.policy, settings.size, sets[0].info.intensity, train.seed)

    def views(pixels: Tensor, cells: Tensor, epoch: int) -> list[Tensor]:
        return [prepare.normalise(view) for view in augment(pixels, cells, epoch)]

    backbone = _create_backbone(sets[0].channels, settings, mean, std)
    licence = config_of(backbone)["license"]
    method = _create_method(backbone, source.cells, settings, classes)
    monitor = Monitor(source, prepare, train.monitor_cells, train.seed, _labels(sets, classes))

    def made() -> Encoder:
        return _encoder(method, sets, settings, mean, std, classes, licence)

    def keep_due(epoch: int, numbers: Mapping[str, float]) -> None:
        due = settings.keep_every and epoch % settings.keep_every == 0 and epoch < train.last_epoch
        if not due:
            return
        encoder = made()  # by every process: each may hold a share of it
        if fabric.is_global_zero:
            keep(encoder, numbers, out, epoch)

    numbers = fit(fabric, method, source, views, train, out, monitor=monitor, after_epoch=keep_due)
    with whole(method):
        numbers |= monitor.contrast(method.online(), fabric.device, views, train.last_epoch)
    return made(), numbers


def _create_backbone(
    channels: int, settings: PretrainSettings, mean: tuple[float, ...], std: tuple[float, ...]
) -> nn.Module:
    return create_backbone(
        settings.backbone,
        channels=channels,
        weights=settings.weights,
        seed=settings.train.seed,
        size=settings.size,
        mean=mean,
        std=std,
        drop_path=settings.drop_path,
        truncate_after=settings.truncate_after,
    )


def _create_method(backbone: nn.Module, cells: int, settings: PretrainSettings, classes: Classes | None) -> Method:
    kind = entry(settings.method)
    chosen = kind.settings.parse(settings.method_settings, where="method_settings")
    labels = {} if classes is None else {"labels": torch.from_numpy(classes.codes)}
    return kind.method(backbone, chosen, cells=cells, seed=settings.train.seed, **labels)


def _encoder(
    method: Method,
    sets: Sequence[CellSet],
    settings: PretrainSettings,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    classes: Classes | None,
    licence: str | None,
) -> Encoder:
    backbone = create_backbone(
        settings.backbone,
        channels=sets[0].channels,
        seed=settings.train.seed,
        size=settings.size,
        truncate_after=settings.truncate_after,
    )
    state = gathered(method.encoder_state())
    match_stem(backbone, state)
    backbone.load_state_dict(state)
    info = EncoderInfo.of(
        sets[0],
        backbone,
        timm_name=settings.backbone,
        truncate_after=settings.truncate_after,
        size=settings.size,
        method=settings.method,
        mean=mean,
        std=std,
        recipe=settings.model_dump(mode="json"),
        pixels_fingerprint="+".join(cellset.pixels_fingerprint for cellset in sets),
        learned_classes=None if classes is None else classes.names,
        licence="unknown" if licence is None else f"trained from weights under: {licence}",
    )
    return Encoder(backbone, info)


def _normalisation(sets: Sequence[CellSet], settings: PretrainSettings) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std per channel, of intensities in [0, 1]; those of several sets are pooled by their cells."""
    channels = sets[0].channels
    if settings.normalise == "half":
        return (0.5,) * channels, (0.5,) * channels
    share = np.array([len(cellset) for cellset in sets]) / sum(len(cellset) for cellset in sets)
    means = np.array([cellset.info.mean for cellset in sets])
    squares = np.array([cellset.info.std for cellset in sets]) ** 2 + means**2
    mean = share @ means
    std = np.sqrt(np.maximum(share @ squares - mean**2, 0.0))
    # A channel of one single intensity has no spread to divide by.
    return tuple(map(float, mean)), tuple(float(value) or 1.0 for value in std)


def _labels(sets: Sequence[CellSet], classes: Classes | None) -> np.ndarray | None:
    """Labels of all cells for the online k-NN, None where no set has any."""
    if classes is not None:
        return np.array([classes.names[code] for code in classes.codes], dtype=object)
    if not any("label" in cellset.cells for cellset in sets):
        return None
    return np.concatenate(
        [labels_of(cellset) if "label" in cellset.cells else np.full(len(cellset), None) for cellset in sets]
    )


def _clear(sets: Sequence[CellSet], out: Path, settings: PretrainSettings) -> None:
    """Delete the run that stands in the way, once what would stop the new one at its start has been looked at."""
    create_fabric(settings.train)
    Batches(sets, settings.train.batch, settings.train.seed, weights=settings.set_weights)
    clear_run(out, "pretrain")


def _finished(out: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether ``out`` holds this very run, whole; one begun is gone on with, anything else refused."""
    if not (out / "recipe.yaml").exists():
        refuse_folder(out, run_mark("pretrain"))
        return False
    ended = (out / "results.json").exists()
    if not ended and not (out / "checkpoint.pt").exists():
        # It stopped before anything was learned, at a wrong setting perhaps: no number is lost by another one.
        refuse_folder(out, run_mark("pretrain"), overwrite=True)
        return False
    before = _with_defaults(read_yaml(out / "recipe.yaml"))
    refuse_changed(_binding(before), _binding(recipe), out)
    if not ended:
        return False
    read_json(out / "results.json")
    log.warning(f"{out}: this run is finished already; give --overwrite to train again")
    return True


def _with_defaults(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a run that an older version began: keys that came since have their defaults."""
    own = {key: recipe[key] for key in _OF_THE_CELLS if key in recipe}
    settings = {key: value for key, value in recipe.items() if key not in _OF_THE_CELLS}
    try:
        return PretrainSettings.parse(settings, "recipe.yaml").model_dump(mode="json") | own
    except InputError:
        return recipe


def _binding(recipe: Mapping[str, Any]) -> dict[str, Any]:
    train = {key: value for key, value in recipe.get("train", {}).items() if key not in _FREE}
    return {**recipe, "train": train}


def _finish(run: RunFolder, sets: Sequence[CellSet], settings: PretrainSettings, numbers: Mapping[str, float]) -> None:
    cells = sum(len(cellset) for cellset in sets)
    run.finish(
        {"task": "pretrain", "method": settings.method, "n": cells, "final": dict(numbers), "encoder": "encoder"}
    )
