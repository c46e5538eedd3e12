import numpy as np
import pandas as pd
import torch

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.folds import split
from leukoscope.common.errors import InputError
from leukoscope.common.progress import progress
from leukoscope.common.runs import log
from leukoscope.encoders.device import pick_device
from leukoscope.probes.from_scratch import SupervisedSettings, Trainer
from leukoscope.scores.predictions import predictions
from leukoscope.scores.significance import SUPERVISED

__all__ = ["SupervisedSettings", "cross_validate_images"]


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
    rows = _rows_of(cellset, labels, folds)
    classes = sorted({str(label) for label in labels[np.unique(rows)]})
    truth = torch.from_numpy(pd.Index(classes).get_indexer(pd.Index(labels)).astype(np.int64))
    trainer = Trainer(model, cellset, truth, len(classes), settings, seed, pick_device(device))
    group = _groups(cellset, folds)
    parts = folds.assign(row=rows).groupby(["repeat", "fold"], sort=True)
    tables = []
    with progress(model, parts.ngroups, unit="folds") as advance:
        for _, part in parts:
            repeat, fold = int(part["repeat"].iloc[0]), int(part["fold"].iloc[0])
            train, test = (part.loc[part["role"] == role, "row"].to_numpy() for role in ("train", "test"))
            lr = _choose_lr(trainer, train, group)
            probabilities = trainer.predict(trainer.fit(train, lr), test)
            ids, names = cellset.ids[test], labels[test]
            place = {"seed": seed, "repeat": repeat, "fold": fold}
            tables.append(predictions(ids, names, probabilities, classes, encoder=SUPERVISED, head=model, **place))
            accuracy = float((probabilities.argmax(axis=1) == truth[test].numpy()).mean())
            log.info("%s: repeat %d, fold %d, lr %g, accuracy %.4f", model, repeat, fold, lr, accuracy)
            advance(1, note=f"accuracy {accuracy:.3f}")
    return pd.concat(tables, ignore_index=True)


def _choose_lr(trainer: Trainer, train: np.ndarray, group: pd.Series | None) -> float:
    """The learning rate with the best accuracy on an inner split of the training cells, the first among equals."""
    rates = trainer.settings.lr
    if len(rates) == 1:
        return rates[0]
    cells = trainer.cellset.cells.iloc[train][["cell_id"]].reset_index(drop=True)
    if group is not None:
        cells["group"] = cells["cell_id"].map(group)
    share = trainer.settings.inner_share
    column = None if group is None else "group"
    truth = trainer.truth[train].numpy()
    part = split(cells, truth, {"fit": 1 - share, "choose": share}, group=column, seed=trainer.seed)
    fit, choose = (train[(part == name).to_numpy()] for name in ("fit", "choose"))
    wanted = trainer.truth[choose].numpy()
    accuracy = [(trainer.predict(trainer.fit(fit, lr), choose).argmax(axis=1) == wanted).mean() for lr in rates]
    return rates[int(np.argmax(accuracy))]


def _groups(cellset: CellSet, folds: pd.DataFrame) -> pd.Series | None:
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
