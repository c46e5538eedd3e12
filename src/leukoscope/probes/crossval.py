from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from leukoscope.common.errors import InputError
from leukoscope.common.runs import log
from leukoscope.common.settings import Settings
from leukoscope.encoders.device import pick_head_device
from leukoscope.encoders.features import Features
from leukoscope.probes.head import Data, Fitted, Job
from leukoscope.probes.nested import OuterFold, outer_folds
from leukoscope.probes.registry import head_of
from leukoscope.scores.predictions import predictions


class ProbeSettings(Settings):
    """How heads are cross-validated: where, and by the name of a head what differs from its defaults.

    ``heads: {linear: {class_weight: balanced}, mlp: {epochs: 50}}``, say; the keys of a head are the fields of its
    probe (:class:`~leukoscope.probes.linear.LinearProbe`, :class:`~leukoscope.probes.mlp.MLPProbe`, ...).
    """

    device: str = "auto"
    heads: dict[str, dict[str, Any]] = Field(default_factory=dict)
    inner_folds: int = Field(default=5, ge=2)


@dataclass(frozen=True)
class CrossValidated:
    """What heads say of cells they have not seen, and what was chosen for them.

    ``predictions`` is the doorstep of :mod:`leukoscope.scores.predictions`; ``choices`` has one row for each encoder,
    head, seed, repeat and fold, with a column a hyper-parameter; ``tried`` one for each value tried inside, with its
    mean log loss and accuracy over the inner folds.
    """

    predictions: pd.DataFrame
    choices: pd.DataFrame
    tried: pd.DataFrame


def cross_validate(
    features: Features,
    labels: np.ndarray,
    folds: pd.DataFrame,
    *,
    heads: Sequence[str] = ("linear", "mlp", "knn"),
    encoder: str = "encoder",
    seeds: Sequence[int] = (0,),
    settings: ProbeSettings | None = None,
) -> CrossValidated:
    """Fit heads on the training cells of every fold and let them predict its test cells.

    Hyper-parameters are chosen by inner folds of the training cells; a test cell is used once, when it is predicted.
    Heads that draw nothing (linear, k-NN) are reported under the first seed only.

    Args:
        features: ``(N, D)``.
        labels: the class of each cell ``(N,)`` as objects, None where unknown; such cells take no part.
        folds: ``cell_id, repeat, fold, role`` of :func:`~leukoscope.cells.folds.make_folds`.
        heads: names of :data:`~leukoscope.probes.registry.HEADS`.
        encoder: the name under which the predictions stand.
        seeds: of what the heads draw.
        settings: see :class:`ProbeSettings`.

    Raises:
        InputError: for an unknown head or setting, features that are not finite, fewer than two classes, or folds that
            do not fit the cells.
    """
    settings = settings or ProbeSettings()
    classes, y = _codes(labels, features)
    outer = outer_folds(folds, features.cells, y, n_inner=settings.inner_folds)
    data = _data(features, y, len(classes), settings.device, encoder)
    tables, choices = [], []
    tried: list[dict[str, Any]] = []
    for name in heads:
        probe = head_of(name, settings.heads.get(name, {}))
        jobs = [(fold, Job(fold.training, seed)) for seed in (seeds if probe.seeded else seeds[:1]) for fold in outer]
        fitted = probe.fit(data, [job for _, job in jobs])
        for (fold, job), each in zip(jobs, fitted, strict=True):
            keys = {"encoder": encoder, "head": name, "seed": job.seed, "repeat": fold.repeat, "fold": fold.fold}
            tables.append(_predicted(features, labels, classes, data, fold, each, keys))
            choices.append({**keys, **each.chosen})
            tried.extend({**keys, **values} for values in each.tried)
        log.info("%s: %s fitted %d times", encoder, name, len(jobs))
    return CrossValidated(pd.concat(tables, ignore_index=True), pd.DataFrame(choices), pd.DataFrame(tried))


def _codes(labels: np.ndarray, features: Features) -> tuple[list[str], np.ndarray]:
    """The classes, sorted, and the number of each cell's ``(N,)`` int64, -1 where unknown."""
    if len(labels) != len(features):
        raise ValueError(f"{len(features)} cells but {len(labels)} labels")
    classes = sorted({str(label) for label in labels if label is not None})
    if len(classes) < 2:
        raise InputError(f"labels: {len(classes)} classes; a head needs at least two to tell apart")
    number = {name: i for i, name in enumerate(classes)}
    return classes, np.array([-1 if label is None else number[str(label)] for label in labels], dtype=np.int64)


def _data(features: Features, y: np.ndarray, n_classes: int, device: str, encoder: str) -> Data:
    features.require_finite(encoder)
    x = np.ascontiguousarray(features.x, dtype=np.float32)
    place = pick_head_device(device)
    return Data(torch.from_numpy(x).to(place), torch.from_numpy(y).to(place), n_classes)


def _predicted(
    features: Features,
    labels: np.ndarray,
    classes: list[str],
    data: Data,
    fold: OuterFold,
    fitted: Fitted,
    keys: Mapping[str, Any],
) -> pd.DataFrame:
    with torch.inference_mode():
        p = fitted.head.probabilities(data.x[data.rows(fold.test)]).cpu().numpy()
    return predictions(features.ids[fold.test], labels[fold.test].astype(str), p, classes, **keys)
