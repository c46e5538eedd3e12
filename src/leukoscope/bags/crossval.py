from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field, field_validator

from leukoscope.bags.bags import Bags
from leukoscope.bags.registry import MODELS, model_of
from leukoscope.bags.train import TrainBagsSettings, fit_bags, judge
from leukoscope.cells.folds import make_folds, split
from leukoscope.common.errors import InputError
from leukoscope.common.runs import log
from leukoscope.common.settings import Settings
from leukoscope.encoders.device import pick_head_device
from leukoscope.encoders.features import Features
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.probes.crossval import ProbeSettings, cross_validate
from leukoscope.scores.predictions import predictions

MEAN_FEATURES = "mean-features"
"""The baseline of logistic regression on the mean features of each bag."""
HEADS = ("class-attention", "abmil", "mean", MEAN_FEATURES)
"""What is compared where nothing else is asked for."""


class BagSettings(Settings):
    """How models of bags are trained and compared."""

    train: TrainBagsSettings = TrainBagsSettings()
    models: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings laid over those of a model, by its name."""
    validation_share: float = Field(default=0.25, gt=0, lt=1)
    """Of a training fold's bags, those that training is stopped by: 0.25 of 80 % are the paper's 20 %."""
    device: str = "auto"

    @field_validator("models")
    @classmethod
    def _are_models(cls, models: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if unknown := sorted(models.keys() - MODELS.keys()):
            raise ValueError(f"no model of bags {unknown[0]!r}; choose from {', '.join(MODELS)}")
        return models


@dataclass(frozen=True)
class CrossValidatedBags:
    """Predictions, a row a bag; the attention that cells of test bags were given; and when training stopped."""

    predictions: pd.DataFrame
    attention: pd.DataFrame
    fits: pd.DataFrame


def bag_folds(bags: Bags, *, n_folds: int, seed: int) -> pd.DataFrame:
    """Folds over bags, stratified by class, linked bags together: ``cell_id`` is a bag's name.

    Where bags are linked, ``group`` says which.

    Raises:
        InputError: when a class has too few bags for ``n_folds``.
    """
    for name in bags.classes:
        if (count := int((bags.labels == name).sum())) < n_folds:
            raise InputError(
                f"class {name!r}: {count} patients are too few for {n_folds} folds; give a smaller --n-folds"
            )
    table = _table(bags)
    try:
        folds = make_folds(table, bags.labels, n_folds=n_folds, group="block", seed=seed)
    except InputError as error:
        raise InputError(f"patients that share images stay together, and so there are too few: {error}") from None
    names = dict(zip(table["cell_id"], bags.names, strict=True))
    folds["cell_id"] = folds["cell_id"].map(names)
    if len(np.unique(bags.linked)) == len(bags.linked):
        return folds
    groups = dict(zip(bags.names, bags.linked.astype(str), strict=True))
    return folds.assign(group=folds["cell_id"].map(groups))


def cross_validate_bags(
    bags: Bags,
    folds: pd.DataFrame,
    *,
    heads: Sequence[str] = HEADS,
    encoder: str = "encoder",
    seeds: Sequence[int] = (0, 1, 2),
    settings: BagSettings | None = None,
) -> CrossValidatedBags:
    """Train models of bags on the training bags of every fold and let them judge its test bags, each once.

    A part of the training bags, the same for all models of a seed, tells when to stop. The baseline of mean features
    learns from all training bags, and chooses its penalty inside them.

    Args:
        bags: all of them.
        folds: of :func:`bag_folds`.
        heads: names of :data:`~leukoscope.bags.registry.MODELS`, or :data:`MEAN_FEATURES`.
        encoder: the name under which the predictions stand.
        seeds: of weights, order, cells drawn and validation bags.
        settings: see :class:`BagSettings`.

    Raises:
        InputError: for an unknown head or setting, or too few bags for a validation part.
        CheckFailed: when training diverges.
    """
    settings = settings or BagSettings()
    chosen = {name: model_of(name, settings.models.get(name, {})) for name in heads if name != MEAN_FEATURES}
    device = pick_head_device(settings.device)
    x = torch.from_numpy(bags.features.x).to(device)
    classes = bags.classes
    y = torch.from_numpy(np.searchsorted(classes, bags.labels.astype(str))).to(device)
    # Before anything is trained: too few bags should not be found out in the last fold.
    parts = {
        (seed, fold): (*_validation(bags, training, settings.validation_share, seed), test)
        for seed in (seeds if chosen else ())
        for fold, training, test in _outer(bags, folds)
    }
    tables, attention, fits = [], [], []
    for name, entry in chosen.items():
        for seed in seeds:
            for fold in folds["fold"].unique():
                fit, validation, test = parts[seed, fold]
                with seeded_weights(seed):
                    model = entry.model(x.shape[1], len(classes), entry.settings).to(device)
                fitted = fit_bags(model, bags, x, y, fit, validation, settings.train, seed)
                keys: dict[str, Any] = {"encoder": encoder, "head": name, "seed": seed, "repeat": 0, "fold": fold}
                said, looked = judge(fitted, bags, x, test)
                tables.append(predictions(bags.names[test], bags.labels[test], said.numpy(), classes, **keys))
                fits.append({**keys, "epochs": fitted.epochs, "validation_loss": fitted.validation_loss})
                if looked is not None:
                    attention += [
                        _attention(bags, bag, each, classes, keys) for bag, each in zip(test, looked, strict=True)
                    ]
        log.info("%s: %s trained %d times", encoder, name, len(seeds) * folds["fold"].nunique())
    if MEAN_FEATURES in heads:
        tables.append(_mean_features(bags, folds, encoder, settings.device))
    return CrossValidatedBags(
        pd.concat(tables, ignore_index=True),
        pd.concat(attention, ignore_index=True) if attention else pd.DataFrame(),
        pd.DataFrame(fits),
    )


def _table(bags: Bags) -> pd.DataFrame:
    """The bags as a table of cells, for folds; what stands before the colon of an id would be its image."""
    ids = [f"{number}:{name}" for number, name in enumerate(bags.names)]
    return pd.DataFrame({"cell_id": ids, "block": bags.linked})


def _outer(bags: Bags, folds: pd.DataFrame) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Training and test bags of every fold."""
    place = {name: number for number, name in enumerate(bags.names)}
    for fold, rows in folds.groupby("fold"):
        number = rows["cell_id"].map(place).to_numpy()
        test = (rows["role"] == "test").to_numpy()
        yield int(str(fold)), number[~test], number[test]


def _validation(bags: Bags, training: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bags to learn from and bags to stop by, stratified; bags that are linked stay together."""
    table, labels = _table(bags).iloc[training], bags.labels[training]
    parts = split(table, labels, {"fit": 1 - share, "validation": share}, group="block", seed=seed).to_numpy()
    fit, validation = training[parts == "fit"], training[parts == "validation"]
    for name in bags.classes:
        if not (bags.labels[fit] == name).any():
            raise InputError(f"class {name!r}: too few patients to hold some back; give a smaller validation_share")
    if not len(validation):
        raise InputError(f"validation_share {share:g} of {len(training)} patients is none; give a larger one")
    return fit, validation


def _attention(
    bags: Bags, bag: int, weights: torch.Tensor, classes: list[str], keys: Mapping[str, Any]
) -> pd.DataFrame:
    """A row a cell: its bag and the attention it was given, a column ``a_CLASS`` for every class, or ``a`` for all."""
    (rows,) = bags.rows(np.array([bag]))
    names = ["a"] if weights.shape[1] == 1 else [f"a_{name}" for name in classes]
    table = pd.DataFrame(weights.numpy(), columns=names)
    return table.assign(cell_id=bags.features.ids[rows], bag=bags.names[bag], **keys)


def _mean_features(bags: Bags, folds: pd.DataFrame, encoder: str, device: str) -> pd.DataFrame:
    """Logistic regression on the mean features of each bag, its penalty chosen inside the training bags."""
    starts = np.concatenate([[0], np.cumsum(bags.sizes)[:-1]])
    means = np.add.reduceat(bags.features.x, starts, axis=0) / bags.sizes[:, None]
    table = _table(bags)
    ids = dict(zip(bags.names, table["cell_id"], strict=True))
    found = cross_validate(
        Features(means.astype(np.float32), table),
        bags.labels,
        folds.assign(cell_id=folds["cell_id"].map(ids)),
        heads=("linear",),
        encoder=encoder,
        settings=ProbeSettings(device=device),
    ).predictions
    names = {coded: name for name, coded in ids.items()}
    return found.assign(head=MEAN_FEATURES, cell_id=found["cell_id"].map(names))
