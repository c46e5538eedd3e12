from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.common.files import refuse_folder, write_json
from leukoscope.common.runs import log, run_folder, run_mark
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.counts import count
from leukoscope.differential.fhir import fhir_bundle
from leukoscope.differential.novelty import SAMPLE_FALSE_ALARM, NoveltyLimits, sample_p
from leukoscope.differential.ranges import ReferenceRanges
from leukoscope.differential.sample import SampleInfo
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import embed


def classify(
    cellset: CellSet,
    encoder: Encoder | Path,
    classifier: Classifier | Path,
    out: Path,
    *,
    batch: int = 256,
    device: str = "auto",
    precision: str = "auto",
    total: float | None = None,
    ranges: ReferenceRanges | None = None,
    fhir: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Classify every cell of a sample and count: the run folder ``out`` with ``cells.csv`` and ``differential.json``.

    ``cells.csv`` holds ``cell_id``, ``predicted``, the calibrated probability ``p_<class>`` of each class; ``doubt``,
    the calibrated probability that the prediction is wrong; ``novelty`` and ``mahalanobis``, the distance to what the
    classifier has learned from, 1 at the limit; and ``novel``, whether it passes the first. Features and the classifier
    are kept with it, so that :class:`~leukoscope.differential.sample.Sample` opens the whole for review.

    Args:
        cellset: the sample.
        encoder: the encoder that the classifier was fitted on: a bundle, or its folder.
        classifier: a bundle, or its folder.
        out: the run folder.
        batch: cells a step; does not change the result.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16``.
        total: leukocytes of the patient in 10^9/L, for absolute counts.
        ranges: reference ranges; None takes those of :meth:`~leukoscope.differential.ranges.ReferenceRanges.read`.
        fhir: whether to write ``fhir.json``, too; see :func:`~leukoscope.differential.fhir.fhir_bundle`.
        seed: of the intervals' draws.
        overwrite: replace what ``out`` holds.

    Returns:
        What ``differential.json`` holds: see :func:`~leukoscope.differential.counts.count`; and ``novelty``, how many
        cells are novel, how many were expected if all are of known kinds, and how probable so many are then.

    Raises:
        InputError: when the classifier was fitted on another encoder, other channels, bit depth or pixel size.
    """
    classifier = classifier if isinstance(classifier, Classifier) else Classifier.load(classifier)
    lay = None if isinstance(encoder, Encoder) else str(encoder.resolve())
    encoder = encoder if isinstance(encoder, Encoder) else Encoder.load(encoder)
    refuse_folder(out, run_mark("classify"), overwrite=overwrite)
    info, ranges = classifier.info, ranges or ReferenceRanges.read()
    refuse_misfit(cellset, encoder, classifier)
    settings = {
        "cells": str(cellset.path),
        "classes": list(info.classes),
        "head": info.head,
        "precision": precision,
        "total": total,
    }
    with run_folder(out, verb="classify", settings=settings, seed=seed, overwrite=overwrite) as run:
        features = embed(cellset, encoder, batch=batch, device=device, precision=precision, readout=info.readout)
        probabilities = classifier.probabilities(features.x)
        features.write(run.path / "features.h5ad")
        classifier.save(run.path / "classifier")
        sample = SampleInfo(
            classes=info.classes,
            cells=str(cellset.path.resolve()),
            pixels_fingerprint=cellset.pixels_fingerprint,
            encoder=lay,
            encoder_fingerprint=info.encoder_fingerprint,
        )
        write_json(run.path / "sample.json", sample.model_dump(mode="json"))
        table = _table(cellset.ids, probabilities, info.classes).assign(**_novelty(features.x, classifier))
        table.assign(set_aside="").to_csv(run.path / "cells.csv", index=False)
        differential = count(
            probabilities,
            info.classes,
            np.array(info.confusion),
            np.array(info.prevalence),
            total=total,
            ranges=ranges,
            seed=seed,
        )
        differential["novelty"] = _novel_sample(table["novel"].to_numpy(), info.novelty)
        write_json(run.path / "differential.json", differential)
        if fhir:
            bundle = fhir_bundle(differential, cellset.pixels_fingerprint, run.provenance["start"], ranges=ranges)
            write_json(run.path / "fhir.json", bundle)
        run.fingerprint("pixels", cellset.pixels_fingerprint)
        run.fingerprint("encoder", info.encoder_fingerprint)
        run.fingerprint("classifier_trained_on", info.pixels_fingerprint)
        run.finish(differential)
    log.info("differential %s: %d cells", out, len(cellset))
    return differential


def refuse_misfit(cellset: CellSet, encoder: Encoder, classifier: Classifier) -> None:
    """Refuse cells that ``classifier`` cannot judge through ``encoder``.

    Raises:
        InputError: when it was fitted on another encoder, other channels, bit depth or field, or there are no cells.
    """
    info, cells = classifier.info, cellset.info
    if len(cellset) == 0:
        raise InputError(f"{cellset.path}: holds no cells to count")
    classifier.refuse_other(encoder)
    # Other names may be other words for the same; the same names in another order are another order of the channels.
    mixed_up = cells.channels != info.channels and sorted(cells.channels) == sorted(info.channels)
    if len(cells.channels) != len(info.channels) or mixed_up:
        raise InputError(
            f"{cellset.path}: has channels {', '.join(cells.channels)}, the classifier learned from "
            f"{', '.join(info.channels)}; pack the same channels in that order"
        )
    if cells.bit_depth != info.bit_depth:
        raise InputError(
            f"{cellset.path}: has {cells.bit_depth} bits, the classifier learned from {info.bit_depth}; is it of "
            "another camera? then fit a classifier for it, or pack with the bit depth of the camera"
        )
    if cells.shows_another_field(info.field_um):
        raise InputError(
            f"{cellset.path}: images show {cells.field_um:.3g} um, the classifier learned from images of "
            f"{info.field_um:.3g} um; pack the same field, by --centre or --fit crop or pad"
        )


def _table(ids: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> pd.DataFrame:
    table = pd.DataFrame({"cell_id": ids, "predicted": np.array(classes, dtype=object)[probabilities.argmax(1)]})
    for k, name in enumerate(classes):
        table[f"p_{name}"] = probabilities[:, k].round(6)
    return table.assign(doubt=(1 - probabilities.max(1)).round(6))


def _novelty(x: np.ndarray, classifier: Classifier) -> dict[str, np.ndarray]:
    """How far each cell is from all that was learned from, in units of the limit, by k-NN and by Mahalanobis."""
    limits, reference = classifier.info.novelty, classifier.reference
    if limits is None or reference is None:
        nothing = np.full(len(x), np.nan)
        return {"novelty": nothing, "mahalanobis": nothing, "novel": np.zeros(len(x), dtype=bool)}
    distance = reference.knn_distance(x) / limits.knn
    mahalanobis = reference.mahalanobis_distance(x) / limits.mahalanobis
    return {"novelty": distance.round(4), "mahalanobis": mahalanobis.round(4), "novel": distance > 1}


def _novel_sample(novel: np.ndarray, limits: NoveltyLimits | None) -> dict[str, Any] | None:
    """Whether a sample holds more novel cells than known kinds alone would give."""
    if limits is None:
        return None
    found, n = int(novel.sum()), len(novel)
    p = sample_p(found, n, limits.false_alarm)
    expected = limits.false_alarm * n
    return {"cells": found, "expected": expected, "p": p, "flag": p < SAMPLE_FALSE_ALARM}
