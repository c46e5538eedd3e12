from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import log_loss

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.folds import make_folds
from leukoscope.cells.groups import resolve_group
from leukoscope.cells.labels import Labels
from leukoscope.cells.measures import measure as measure_cells
from leukoscope.common.errors import InputError
from leukoscope.common.files import refuse_folder
from leukoscope.common.runs import log
from leukoscope.differential.answers import Answers, whose_are
from leukoscope.differential.calibration import apply_temperature, fit_temperature
from leukoscope.differential.classifier import MARK, Classifier, ClassifierInfo, HeadName
from leukoscope.differential.novelty import Reference, learn_novelty
from leukoscope.differential.quality import QualityLimits
from leukoscope.differential.quality_limits import learn_quality
from leukoscope.encoders.device import pick_head_device
from leukoscope.encoders.features import Features
from leukoscope.encoders.readout import Readout
from leukoscope.probes.crossval import ProbeSettings, cross_validate
from leukoscope.probes.evaluated import labels_of_cells
from leukoscope.probes.head import Data, Fitted, Job
from leukoscope.probes.nested import Inner, TrainingSet
from leukoscope.probes.registry import head_of
from leukoscope.scores.confusion import matrix
from leukoscope.scores.metrics import measure
from leukoscope.scores.predictions import classes_of, probabilities_of, truth_of
from leukoscope.scores.reliability import reliability

_REPORTED = ("accuracy", "balanced_accuracy", "log_loss", "ece")


def fit(
    features: Features,
    out: Path,
    *,
    head: HeadName | Literal["best"] = "linear",
    label: str = "label",
    overlay: Labels | None = None,
    cells: CellSet | None = None,
    false_alarm: float = 0.01,
    novelty: bool = True,
    group: str | None = None,
    n_folds: int = 5,
    seed: int = 0,
    settings: ProbeSettings | None = None,
    overwrite: bool = False,
) -> Classifier:
    """Fit a classifier on all labelled cells and write it as the bundle ``out``.

    Cross-validation comes first: cells that a head has not seen give its confusions and its temperature. Then one head
    is fitted on all labelled cells, its hyper-parameters chosen by the same folds. What is told of the ``best`` of two
    heads is a little optimistic, as the one that was luckier in the folds is preferred.

    Args:
        features: of labelled and perhaps unlabelled cells; the latter take no part.
        out: the bundle folder.
        head: ``linear`` or ``mlp``; ``best`` is the one of the two whose calibrated log loss is less in the folds.
        label: the column that holds the class.
        overlay: labels laid over the table, instead of the column.
        cells: the CellSet that the features are of. Limits of quality are learned from the pixels of its labelled
            cells, so that ``classify`` sets spoiled ones aside; None learns none.
        false_alarm: the share of good cells of any class that the limits may set aside.
        novelty: whether to learn from the same folds how far a known cell may be from what was learned.
        group: a column whose cells stay in one fold; None takes ``patient`` or else ``slide`` where the table has it,
            ``"none"`` groups nothing.
        n_folds: folds of the cross-validation.
        seed: of folds and head.
        settings: of the head and where it runs.
        overwrite: replace what ``out`` holds.

    Raises:
        InputError: when labels are missing, too few for the folds, the features do not say where they are from, or
            ``cells`` lacks labelled cells.
    """
    refuse_folder(out, MARK, overwrite=overwrite)
    source = _source(features)
    labels = labels_of_cells(features.cells, label=label, overlay=overlay)
    known = np.array([each is not None for each in labels])
    quality = _limits(cells, features.ids[known], labels[known], false_alarm)
    group = resolve_group(features.cells, group)
    settings = settings or ProbeSettings()
    folds = make_folds(features.cells, labels, n_folds=n_folds, group=group, seed=seed)
    tried: tuple[HeadName, ...] = ("linear", "mlp") if head == "best" else (head,)
    predictions = cross_validate(features, labels, folds, heads=tried, seeds=(seed,), settings=settings).predictions
    losses = {name: _calibrated_loss(predictions[predictions["head"] == name]) for name in tried}
    chosen = min(tried, key=losses.__getitem__)
    unseen = predictions[predictions["head"] == chosen]
    classes = classes_of(unseen)
    y = pd.Index(classes).get_indexer(pd.Index(labels)).astype(np.int64)
    splits = splits_of(folds, features.ids)
    fitted = _fit_all(features, y, len(classes), splits, chosen, seed, settings)
    truth, probabilities = truth_of(unseen), probabilities_of(unseen)
    temperature = fit_temperature(probabilities, truth)
    calibrated, predicted = apply_temperature(probabilities, temperature), probabilities.argmax(1)
    held_out = ((Reference.of(features.x[train], y[train], seed=seed), features.x[test]) for train, test in splits)
    info = ClassifierInfo(
        classes=tuple(classes),
        head=chosen,
        heads={str(name): loss for name, loss in losses.items()},
        chosen={key: float(value) for key, value in fitted.chosen.items()},
        feature_dim=features.x.shape[1],
        **source,
        temperature=temperature,
        prevalence=tuple((np.bincount(truth, minlength=len(classes)) / len(truth)).tolist()),
        confusion=tuple(map(tuple, matrix(truth, predicted, len(classes)).tolist())),
        answers=Answers.learn(truth, calibrated, whose_are(unseen, features.cells, group), seed=seed),
        cross_validated=unseen_scores(truth, probabilities, temperature),
        reliability=unseen_reliability(truth, probabilities, temperature),
        novelty=learn_novelty(held_out) if novelty else None,
        folds=n_folds,
        group=group,
        seed=seed,
        quality=quality,
    )
    reference = Reference.of(features.x[known], y[known], seed=seed)
    Classifier(fitted.head, info, reference).save(out, overwrite=overwrite)
    if head == "best":
        log.info("head: %s, of log loss %s", chosen, ", ".join(f"{loss:.3f} ({name})" for name, loss in losses.items()))
    told = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in info.cross_validated.items())
    log.info("classifier %s: %d cells, temperature %.2f, cross-validated %s", out, len(truth), temperature, told)
    # As anyone will load it: on the CPU, wherever it was fitted.
    return Classifier.load(out)


def _calibrated_loss(predictions: pd.DataFrame) -> float:
    """The log loss of cells that a head has not seen, with its own temperature."""
    truth, probabilities = truth_of(predictions), probabilities_of(predictions)
    calibrated = apply_temperature(probabilities, fit_temperature(probabilities, truth))
    return float(log_loss(truth, calibrated, labels=range(probabilities.shape[1])))


def _source(features: Features) -> dict[str, Any]:
    """What the features say of the cells and the encoder they come from."""
    needed = ("encoder_fingerprint", "timm_name", "channels", "bit_depth", "pixels_fingerprint")
    missing = [key for key in needed if key not in features.uns]
    if missing:
        raise InputError(f"features: uns lacks {', '.join(missing)}; embed the cells anew with 'leukoscope embed'")
    uns = features.uns
    return {
        "encoder_fingerprint": str(uns["encoder_fingerprint"]),
        "timm_name": str(uns["timm_name"]),
        "channels": tuple(str(name) for name in uns["channels"]),
        "bit_depth": int(uns["bit_depth"]),
        "field_um": float(uns["field_um"]) if "field_um" in uns else None,
        "readout": Readout.of(uns),
        "pixels_fingerprint": str(uns["pixels_fingerprint"]),
    }


def splits_of(folds: pd.DataFrame, ids: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of the training and the test cells of every fold."""
    row_of = pd.Series(np.arange(len(ids)), index=ids)
    splits = []
    for _, table in folds.groupby("fold", sort=True):
        rows = {role: np.sort(row_of[part["cell_id"]].to_numpy()) for role, part in table.groupby("role")}
        splits.append((rows["train"], rows["test"]))
    return splits


def _limits(
    cells: CellSet | None, labelled: np.ndarray, labels: np.ndarray, false_alarm: float
) -> QualityLimits | None:
    """Limits of quality, learned from the pixels of the labelled cells."""
    if cells is None:
        return None
    if not 0 < false_alarm < 1:
        raise InputError(f"--false-alarm {false_alarm}: give a share between 0 and 1")
    rows = pd.Index(cells.ids).get_indexer(pd.Index(labelled))
    missing = labelled[rows < 0]
    if len(missing):
        raise InputError(
            f"{cells.path}: lacks {len(missing)} of the {len(labelled)} labelled cells, such as {missing[0]}; give the "
            "CellSet that the features were embedded from"
        )
    measures = measure_cells(cells.select(np.sort(rows))).loc[labelled]
    return learn_quality(measures, labels, false_alarm=false_alarm)


def _fit_all(
    features: Features,
    y: np.ndarray,
    n_classes: int,
    splits: list[tuple[np.ndarray, np.ndarray]],
    head: str,
    seed: int,
    settings: ProbeSettings,
) -> Fitted:
    """One head on every labelled cell; the folds serve as its inner splits."""
    device = pick_head_device(settings.device)
    data = Data(torch.from_numpy(features.x).to(device), torch.from_numpy(y).to(device), n_classes)
    training = TrainingSet(np.flatnonzero(y >= 0), tuple(Inner(train, test) for train, test in splits))
    return head_of(head, settings.heads.get(head, {})).fit(data, [Job(training, seed)])[0]


def unseen_scores(truth: np.ndarray, probabilities: np.ndarray, temperature: float) -> dict[str, float]:
    """Scores of cells that a classifier has not learned from, before and after calibration, for its bundle.

    Args:
        truth: class indices ``(n,)``.
        probabilities: as the head gave them ``(n, K)``.
        temperature: that they are calibrated by.
    """
    ones: np.ndarray = np.ones((len(truth), 1))
    before = measure(truth, probabilities, ones).overall
    after = measure(truth, apply_temperature(probabilities, temperature), ones).overall
    scores = {name: float(before[name][0]) for name in _REPORTED}
    return {**scores, **{f"{name}_calibrated": float(after[name][0]) for name in ("log_loss", "ece")}}


def unseen_reliability(
    truth: np.ndarray, probabilities: np.ndarray, temperature: float
) -> dict[str, tuple[tuple[int, float, float], ...]]:
    """Bins of a reliability diagram of the same cells, before and after calibration, for a classifier's bundle.

    Args:
        truth: as of :func:`unseen_scores`.
        probabilities: as there.
        temperature: as there.
    """
    told = {}
    for when, p in (("before", probabilities), ("after", apply_temperature(probabilities, temperature))):
        found = reliability(p.max(axis=1), p.argmax(axis=1) == truth)
        bins = zip(*(part[found.cells > 0].tolist() for part in found), strict=True)
        told[when] = tuple((int(cells), float(said), float(right)) for cells, said, right in bins)
    return told
