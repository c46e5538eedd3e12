from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.folds import make_folds
from leukoscope.cells.groups import resolve_group
from leukoscope.cells.labels import Labels
from leukoscope.common.errors import InputError
from leukoscope.common.files import whole_file
from leukoscope.common.runs import log
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.features import Features
from leukoscope.encoders.readout import Readout
from leukoscope.probes.crossval import ProbeSettings
from leukoscope.probes.evaluated import with_group
from leukoscope.probes.networks import MODELS
from leukoscope.probes.supervised import SupervisedSettings, cross_validate_images
from leukoscope.scores import predictions
from leukoscope.study.workspace import Workspace


def embed_task(
    space: Workspace, name: str, cellset: CellSet, bundles: Mapping[str, Mapping[str, Path]]
) -> dict[str, Features]:
    """Features of a task's cells by every encoder, each trial of a sweep named ``encoder:trial``."""
    task = space.recipe.tasks[name]
    found = {}
    for encoder_name, encoder_trials in bundles.items():
        for trial, bundle in encoder_trials.items():
            key = feature_name(encoder_name, trial)
            found[key] = embedded(space, name, key, cellset, bundle, readout=task.embed)
    return found


def embedded(
    space: Workspace,
    stage: str,
    key: str,
    cellset: CellSet,
    bundle: Path,
    *,
    readout: Readout,
    maps: bool = False,
    flipped: bool = False,
) -> Features:
    """Features of the cells of a ``stage`` by one encoder, kept as ``key``; computed where they are not there yet.

    Raises:
        InputError: as :func:`kept_features`.
    """
    path = space.features_path(stage, key)
    if not path.exists():
        log.info("%s: embed by %s", stage, key)
        encoder, device = Encoder.load(bundle), space.recipe.device
        embed(cellset, encoder, path, device=device, readout=readout, maps=maps, flipped=flipped)
    return kept_features(path, cellset)


def kept_features(path: Path, cellset: CellSet) -> Features:
    """Features that an earlier call may have left, of the cells of ``cellset``.

    Raises:
        InputError: when they are of other pixels: the set was packed anew where it is opened.
    """
    found = Features.read(path)
    if found.uns.get("pixels_fingerprint") != cellset.pixels_fingerprint:
        raise InputError(
            f"{path}: of other pixels than {cellset.path} holds now; choose another folder, or bring the old set back"
        )
    return found


def feature_name(encoder: str, trial: str) -> str:
    """What a trial's features are called beside those of other encoders."""
    return f"{encoder}:{trial}" if trial else encoder


def probe_settings(space: Workspace, name: str) -> ProbeSettings:
    """The settings of a task's heads, on the recipe's device where they name none.

    Raises:
        InputError: one line naming the key at fault.
    """
    given = {"device": space.recipe.device, **space.recipe.tasks[name].probes}
    return ProbeSettings.parse(given, f"{space.recipe.name}: tasks.{name}.probes")


def supervised_settings(space: Workspace, name: str) -> dict[str, SupervisedSettings]:
    """The settings of each network that a task trains from scratch.

    Raises:
        InputError: one line naming the key at fault.
    """
    where, networks = f"{space.recipe.name}: tasks.{name}.supervised", space.recipe.tasks[name].supervised
    for model in networks.keys() - set(MODELS):
        raise InputError(f"{where}: no network {model!r}; choose from {', '.join(MODELS)}")
    return {model: SupervisedSettings.parse(values, f"{where}.{model}") for model, values in networks.items()}


def task_folds(space: Workspace, name: str, cellset: CellSet, labels: Labels) -> pd.DataFrame:
    """The folds of a task, made once and shared by every encoder, head and baseline; grouped as in ``evaluate``."""
    task = space.recipe.tasks[name]
    cells, known = cellset.cells, labels.of(cellset.ids)
    group = resolve_group(cells, task.group)
    folds = make_folds(cells, known, n_folds=task.folds, repeats=task.repeats, group=group, seed=space.recipe.seed)
    return folds if group is None else with_group(folds, cells, group)


def supervised_baselines(
    space: Workspace, name: str, cellset: CellSet, labels: Labels, folds: pd.DataFrame
) -> list[pd.DataFrame]:
    """Predictions of the networks trained from scratch on the same folds, a table each."""
    tables = []
    for model, settings in supervised_settings(space, name).items():
        path = space.out / "supervised" / name / f"{model}.parquet"
        if not path.exists():
            log.info("task %s: supervised %s", name, model)
            table = cross_validate_images(
                cellset,
                labels.of(cellset.ids),
                folds,
                model=model,
                settings=settings,
                seed=space.recipe.seed,
                device=space.recipe.device,
            )
            with whole_file(path) as partial:
                predictions.write(partial, table)
        tables.append(predictions.read(path))
    return tables
