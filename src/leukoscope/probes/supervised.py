from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.common.progress import progress
from leukoscope.common.runs import log
from leukoscope.probes.evaluated import Fold
from leukoscope.probes.from_scratch import SupervisedSettings, start_at_random
from leukoscope.probes.parts import at_most
from leukoscope.probes.stages import StageSettings
from leukoscope.probes.start import Start
from leukoscope.probes.trainer import Plan, Trainer
from leukoscope.probes.tuning import inner_split, tune
from leukoscope.scores.predictions import predictions
from leukoscope.scores.significance import SUPERVISED

__all__ = ["SupervisedSettings", "cross_validate_images", "cross_validate_stages"]


def cross_validate_images(
    cellset: CellSet,
    labels: np.ndarray,
    folds: pd.DataFrame,
    *,
    model: str,
    settings: SupervisedSettings | None = None,
    seed: int = 0,
    device: str = "auto",
) -> pd.DataFrame:
    """Train a network from scratch in every fold and predict the cells held out; the last epoch counts.

    Args:
        cellset: the cells, among them all those of the folds.
        labels: the class of each cell ``(N,)``; cells outside the folds may have None.
        folds: ``cell_id, repeat, fold, role``, shared with what is compared.
        model: ``mlp``, ``resnet18`` or ``vit_small``; see :func:`~leukoscope.probes.networks.create_network`.
        settings: of the training.
        seed: of the weights, the order of cells and their views.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.

    Returns:
        Predictions with encoder ``supervised`` and the model as head.

    Raises:
        InputError: when a cell of the folds is missing or unlabelled, or the model or policy does not fit.
    """
    settings = settings or SupervisedSettings()

    def start(n_classes: int, fold: Fold) -> Start:
        return start_at_random(model, cellset, n_classes, settings, seed=seed)

    staged = settings.staged(seed=seed, device=device)
    return cross_validate_stages(cellset, labels, folds, start=start, settings=staged, encoder=SUPERVISED, head=model)


def cross_validate_stages(
    cellset: CellSet,
    labels: np.ndarray,
    folds: pd.DataFrame,
    *,
    start: Callable[[int, Fold], Start],
    settings: StageSettings,
    encoder: str,
    head: str,
) -> pd.DataFrame:
    """Train a network in stages in every fold, and predict the cells held out.

    Where something is chosen (a learning rate, the end of a stage), it is chosen on a part of the training cells that
    is held back for that, and the network trained anew on all of them. No test cell has a say.

    Args:
        cellset: the cells, among them all those of the folds.
        labels: the class of each cell ``(N,)``; cells outside the folds may have None.
        folds: ``cell_id, repeat, fold, role`` and perhaps ``group``, shared with what is compared.
        start: where training starts, by the number of classes and the fold.
        settings: of the training.
        encoder: under which name the predictions stand.
        head: as ``encoder``.

    Raises:
        InputError: when a cell of the folds is missing or unlabelled, or the network does not fit.
        CheckFailed: when training diverges.
    """
    rows = _rows_of(cellset, labels, folds)
    classes = sorted({str(label) for label in labels[np.unique(rows)]})
    truth = torch.from_numpy(pd.Index(classes).get_indexer(pd.Index(labels)).astype(np.int64))
    group = _groups(folds)
    parts = folds.assign(row=rows).groupby(["repeat", "fold"], sort=True)
    name = head if encoder == SUPERVISED else encoder
    tables = []
    with progress(name, parts.ngroups, unit="folds") as advance:
        for _, part in parts:
            fold = (int(part["repeat"].iloc[0]), int(part["fold"].iloc[0]))
            train, test = (part.loc[part["role"] == role, "row"].to_numpy() for role in ("train", "test"))
            train = at_most(train, truth[train].numpy(), settings.max_per_class, settings.seed)
            trainer = Trainer(start(len(classes), fold), cellset, truth, settings)
            plan = _plan(trainer, train, group)
            network, _ = trainer.fit(train, plan)
            probabilities = trainer.predict(network, test)
            ids, names = cellset.ids[test], labels[test]
            place = {"seed": settings.seed, "repeat": fold[0], "fold": fold[1]}
            tables.append(predictions(ids, names, probabilities, classes, encoder=encoder, head=head, **place))
            _, accuracy = trainer.scores(probabilities, test)
            log.info("%s: repeat %d, fold %d, %s, accuracy %.4f", name, *fold, plan, accuracy)
            advance(1, note=f"accuracy {accuracy:.3f}")
    return pd.concat(tables, ignore_index=True)


def _plan(trainer: Trainer, train: np.ndarray, group: pd.Series | None) -> Plan:
    if not trainer.settings.chooses:
        return Plan.whole(trainer.settings, trainer.settings.rates[0])
    return tune(trainer, *inner_split(trainer, train, group)).plan


def _groups(folds: pd.DataFrame) -> pd.Series | None:
    if "group" not in folds.columns:
        return None
    return folds.drop_duplicates("cell_id").set_index("cell_id")["group"]


def _rows_of(cellset: CellSet, labels: np.ndarray, folds: pd.DataFrame) -> np.ndarray:
    rows = pd.Index(cellset.ids).get_indexer(pd.Index(folds["cell_id"]))
    if (rows < 0).any():
        raise InputError(
            f"{cellset.path}: lacks {int((rows < 0).sum())} cells of the folds, the first is "
            f"{folds['cell_id'][rows < 0].iloc[0]}; give the CellSet that the folds were made of"
        )
    unknown = [row for row in np.unique(rows) if labels[row] is None]
    if unknown:
        raise InputError(
            f"{cellset.path}: cell {cellset.ids[unknown[0]]} of the folds has no label; make the folds again"
        )
    return np.asarray(rows)
