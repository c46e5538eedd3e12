from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field, field_validator

from leukoscope.bags.bags import Bags
from leukoscope.bags.baselines import BASELINES, MEAN_FEATURES, cross_validate_numbers
from leukoscope.bags.folds import hold_back, outer_folds
from leukoscope.bags.registry import MODELS, Entry, model_of
from leukoscope.bags.removal import RemovalSettings, remove_cells
from leukoscope.bags.stability import stability
from leukoscope.bags.torchmil import PREFIX
from leukoscope.bags.train import TrainBagsSettings, fit_bags, judge
from leukoscope.common.runs import log
from leukoscope.common.settings import Settings
from leukoscope.encoders.device import pick_head_device
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.scores.predictions import predictions

HEADS = ("class-attention", "abmil", "mean", MEAN_FEATURES)
"""What is compared where nothing else is asked for."""


class BagSettings(Settings):
    """How models of bags are trained and compared."""

    train: TrainBagsSettings = TrainBagsSettings()
    models: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings laid over those of a model, by its name."""
    validation_share: float = Field(default=0.25, gt=0, lt=1)
    """Of a training fold's bags, those that training is stopped by: 0.25 of 80 % are the paper's 20 %."""
    removal: RemovalSettings = RemovalSettings()
    device: str = "auto"

    @field_validator("models")
    @classmethod
    def _are_models(cls, models: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        unknown = sorted(name for name in models.keys() - MODELS.keys() if not name.startswith(PREFIX))
        if unknown:
            raise ValueError(f"no model of bags {unknown[0]!r}; choose from {', '.join(MODELS)}, {PREFIX}NAME")
        return models


@dataclass(frozen=True)
class CrossValidatedBags:
    """What models said of bags that they had not seen, and what can be read from their attention.

    Attributes:
        predictions: a row a bag, model, seed and fold.
        attention: a row a cell of a test bag: ``a_CLASS``, or ``a``.
        fits: after how many epochs training was best.
        removal: see :func:`~leukoscope.bags.removal.remove_cells`.
        stability: see :func:`~leukoscope.bags.stability.stability`.
    """

    predictions: pd.DataFrame
    attention: pd.DataFrame
    fits: pd.DataFrame
    removal: pd.DataFrame
    stability: pd.DataFrame


def cross_validate_bags(
    bags: Bags,
    folds: pd.DataFrame,
    *,
    heads: Sequence[str] = HEADS,
    encoder: str = "encoder",
    seeds: Sequence[int] = (0, 1, 2),
    settings: BagSettings | None = None,
    read: bool = True,
) -> CrossValidatedBags:
    """Train models of bags on the training bags of every fold and let them judge its test bags, each once.

    A part of the training bags, the same for all models of a seed, tells when to stop. The baselines learn from all
    training bags, and choose their penalty inside them.

    Args:
        bags: all of them.
        folds: of :func:`~leukoscope.bags.folds.bag_folds`.
        heads: names of :data:`~leukoscope.bags.registry.MODELS` and :data:`~leukoscope.bags.baselines.BASELINES`.
        encoder: the name under which the predictions stand.
        seeds: of weights, order, cells drawn and validation bags.
        settings: see :class:`BagSettings`.
        read: also keep attention, and check it by removal and stability.

    Raises:
        InputError: for an unknown head or setting, or too few bags for a validation part.
        CheckFailed: when training diverges.
    """
    settings = settings or BagSettings()
    chosen = {name: model_of(name, settings.models.get(name, {})) for name in heads if name not in BASELINES}
    # Before anything is trained: what is missing should not be found out in the last fold.
    inputs = {name: entry.model.input_of(bags) for name, entry in chosen.items()}
    numbers = {name: BASELINES[name](bags) for name in heads if name in BASELINES}
    parts = {
        (seed, fold): (*hold_back(bags, training, settings.validation_share, seed), test)
        for seed in (seeds if chosen else ())
        for fold, training, test in outer_folds(bags, folds)
    }
    found = [
        _cross_validate(name, entry, bags, inputs[name], parts, encoder, settings, read=read)
        for name, entry in chosen.items()
    ]
    tables = [
        cross_validate_numbers(each, bags, folds, encoder=encoder, head=name, device=settings.device)
        for name, each in numbers.items()
    ]
    return CrossValidatedBags(
        pd.concat([*(each.predictions for each in found), *tables], ignore_index=True),
        _joined(each.attention for each in found),
        _joined(each.fits for each in found),
        _joined(each.removal for each in found),
        _joined(each.stability for each in found),
    )


def _cross_validate(
    name: str,
    entry: Entry,
    bags: Bags,
    x: torch.Tensor,
    parts: Mapping[tuple[int, int], tuple[np.ndarray, np.ndarray, np.ndarray]],
    encoder: str,
    settings: BagSettings,
    *,
    read: bool,
) -> CrossValidatedBags:
    device = pick_head_device(settings.device)
    x = x.to(device)
    mirrored = bags.features.flipped if x.ndim == 2 else None
    flipped = None if mirrored is None else torch.from_numpy(mirrored).to(device)
    classes = bags.classes
    y = torch.from_numpy(np.searchsorted(classes, bags.labels.astype(str))).to(device)
    every = np.arange(len(bags.names))
    tables, attention, fits, removed = [], [], [], []
    looks: dict[tuple[int, int], np.ndarray] = {}
    for (seed, fold), (fit, validation, test) in parts.items():
        with seeded_weights(seed):
            model = entry.model(x.shape[1] if x.ndim == 2 else x.shape[1:], len(classes), entry.settings).to(device)
        fitted = fit_bags(model, bags, x, y, fit, validation, settings.train, seed, flipped=flipped)
        keys: dict[str, Any] = {"encoder": encoder, "head": name, "seed": seed, "repeat": 0, "fold": fold}
        said, looked = judge(fitted, x, bags.rows(test))
        tables.append(predictions(bags.names[test], bags.labels[test], said.numpy(), classes, **keys))
        fits.append({**keys, "epochs": fitted.epochs, "validation_loss": fitted.validation_loss})
        if looked is not None and read:
            attention.append(_attention(bags, test, [each.numpy() for each in looked], classes, keys))
            rng = np.random.default_rng((seed, fold))
            removed.append(remove_cells(fitted, bags, x, test, said, looked, settings.removal, rng).assign(**keys))
            _, everywhere = judge(fitted, x, bags.rows(every))
            looks[seed, fold] = torch.cat(everywhere or []).numpy()
    steady = pd.DataFrame()
    if looks:
        columns = attention_columns(next(iter(looks.values())).shape[1], classes)
        steady = stability(looks, bags, columns).assign(encoder=encoder, head=name)
    log.info("%s: %s trained %d times", encoder, name, len(parts))
    return CrossValidatedBags(
        pd.concat(tables, ignore_index=True),
        _joined(attention),
        pd.DataFrame(fits),
        _joined(removed),
        steady,
    )


def attention_columns(heads: int, classes: list[str]) -> list[str]:
    """The columns of a table of attention: ``a`` where there is one for all classes, else ``a_CLASS``."""
    return ["a"] if heads == 1 else [f"a_{name}" for name in classes]


def _attention(
    bags: Bags, test: np.ndarray, weights: list[np.ndarray], classes: list[str], keys: Mapping[str, Any]
) -> pd.DataFrame:
    """A row a cell of the test bags: its bag, its kind where known, and the attention it was given."""
    rows = np.concatenate(bags.rows(test))
    table = pd.DataFrame(np.concatenate(weights), columns=attention_columns(weights[0].shape[1], classes))
    kinds = {} if bags.kinds is None else {"kind": bags.kinds[rows]}
    return table.assign(cell_id=bags.features.ids[rows], bag=bags.names[bags.of[rows]], **kinds, **keys)


def _joined(tables: Any) -> pd.DataFrame:
    """The tables in one; an empty one where there are none."""
    kept = [table for table in tables if len(table)]
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame()
