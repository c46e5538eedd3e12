from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.common.files import refuse_folder, write_json
from leukoscope.common.runs import log, run_folder, run_mark
from leukoscope.differential.aside import refuse_without_normal, set_aside, tally
from leukoscope.differential.classifier import Classifier, ClassifierInfo
from leukoscope.differential.counts import CountOptions, count
from leukoscope.differential.fhir import fhir_bundle
from leukoscope.differential.novel_cells import novelty_of, novelty_of_sample
from leukoscope.differential.sample import SampleInfo, inputs_of
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.features import Features

REVIEW = "review.db"
"""What people said of a sample, which a review keeps in its run folder."""


def classify(
    cellset: CellSet,
    encoder: Encoder | Path,
    classifier: Classifier | Path,
    out: Path,
    *,
    encoder_at: Path | None = None,
    quality: Classifier | Path | None = None,
    options: CountOptions | None = None,
    fhir: bool = False,
    batch: int = 256,
    device: str = "auto",
    precision: str = "auto",
    jobs: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Classify every cell of a sample and count: the run folder ``out`` with ``cells.csv`` and ``differential.json``.

    ``cells.csv`` holds ``cell_id``, ``predicted``, the calibrated probability ``p_<class>`` of each class; ``doubt``,
    the calibrated probability that the prediction is wrong; ``novelty`` and ``mahalanobis``, the distance to what the
    classifier has learned from, 1 at the limit; ``novel``, whether it passes the first; and ``set_aside``, the reason
    why the cell is not counted, see :func:`~leukoscope.differential.aside.set_aside`. Features and the classifier are
    kept with it, so that :class:`~leukoscope.differential.sample.Sample` opens the whole for review.

    Args:
        cellset: the sample.
        encoder: the encoder that the classifier was fitted on: a bundle, or its folder.
        classifier: a bundle, or its folder.
        out: the run folder.
        encoder_at: the folder of an encoder that is given as a bundle, where a review finds it again.
        quality: a classifier of quality on the same encoder, with a class ``normal``, or its folder.
        options: what a laboratory decides of the count; None takes the defaults.
        fhir: whether to write ``fhir.json``, too; see :func:`~leukoscope.differential.fhir.fhir_bundle`.
        batch: cells a step; does not change the result.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16``.
        jobs: threads that measure the cells; 0 takes one a core.
        overwrite: replace what ``out`` holds.

    Returns:
        What ``differential.json`` holds: see :func:`~leukoscope.differential.counts.count`, of the cells that count;
        ``n_imaged`` cells in all, and ``set_aside``: how many for each reason; and ``novelty``: how many of those that
        count are novel, how many were expected if all are of known kinds, and how probable so many are then.

    Raises:
        InputError: when a classifier was fitted on another encoder, other channels, bit depth or pixel size, that of
            quality has no class ``normal``, or no cell is left to count.
    """
    classifier = classifier if isinstance(classifier, Classifier) else Classifier.load(classifier)
    lay = encoder_at if isinstance(encoder, Encoder) else encoder
    encoder = encoder if isinstance(encoder, Encoder) else Encoder.load(encoder)
    quality = Classifier.load(quality) if isinstance(quality, Path) else quality
    info, options = classifier.info, options or CountOptions()
    _refuse_out(out, overwrite=overwrite)
    refuse_misfit(cellset, encoder, classifier)
    if quality is not None:
        refuse_misfit(cellset, encoder, quality)
        refuse_without_normal(quality, classifier)
    settings = {
        "cells": str(cellset.path), "classes": list(info.classes), "head": info.head, "precision": precision,
        "quality": list(quality.info.classes) if quality else None, "total": options.total,
    }  # fmt: skip
    for name in options.strangers(info.classes):
        log.warning("%s: no class of the classifier, and no kind of cell that is known; is it misspelt?", name)
    with run_folder(out, verb="classify", settings=settings, seed=options.seed, overwrite=overwrite) as run:
        features = embed(cellset, encoder, batch=batch, device=device, precision=precision, readout=info.readout)
        features.require_finite(encoder.info.timm_name)
        probabilities = classifier.probabilities(features.x)
        aside = set_aside(cellset, features.x, classifier, quality, jobs=jobs)
        table = _table(cellset.ids, probabilities, info.classes)
        table = table.assign(**novelty_of(features.x, classifier), set_aside=aside)
        sample = SampleInfo(
            classes=info.classes,
            cells=str(cellset.path.resolve()),
            pixels_fingerprint=cellset.pixels_fingerprint,
            encoder=str(lay.resolve()) if lay else None,
            encoder_fingerprint=info.encoder_fingerprint,
            inputs=inputs_of(cellset, classifier, quality, options, precision=precision, fhir=fhir),
        )
        _keep(run.path, sample, features, classifier, table)
        differential = _differential(table, probabilities, info, options)
        differential["quality_judged"] = quality is not None or bool(info.quality and info.quality.limits)
        if differential["assumed_leukocytes"]:
            log.warning(
                "%s: taken to be leukocytes, as nothing is known of them; say so or otherwise by --leukocytes",
                ", ".join(differential["assumed_leukocytes"]),
            )
        write_json(run.path / "differential.json", differential)
        if fhir:
            made = run.provenance["start"]
            bundle = fhir_bundle(differential, f"{cellset.pixels_fingerprint}:{made}", made, ranges=options.ranges)
            write_json(run.path / "fhir.json", bundle)
        run.fingerprint("pixels", cellset.pixels_fingerprint)
        run.fingerprint("encoder", info.encoder_fingerprint)
        run.fingerprint("classifier_trained_on", info.pixels_fingerprint)
        run.finish(differential)
    log.info("differential %s: %d of %d cells counted", out, differential["n"], len(cellset))
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


def _refuse_out(out: Path, *, overwrite: bool) -> None:
    refuse_folder(out, run_mark("classify"), overwrite=overwrite)
    kept = [path.name for path in (out / REVIEW, *out.glob("learned-*")) if path.exists()]
    if kept:
        raise InputError(
            f"{out}: holds what came of a review ({kept[0]}), which --overwrite would delete; choose another"
        )


def _table(ids: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> pd.DataFrame:
    table = pd.DataFrame({"cell_id": ids, "predicted": np.array(classes, dtype=object)[probabilities.argmax(1)]})
    for k, name in enumerate(classes):
        table[f"p_{name}"] = probabilities[:, k].round(6)
    return table.assign(doubt=(1 - probabilities.max(1)).round(6))


def _keep(folder: Path, sample: SampleInfo, features: Features, classifier: Classifier, table: pd.DataFrame) -> None:
    """Write what :class:`~leukoscope.differential.sample.Sample` opens."""
    write_json(folder / "sample.json", sample.model_dump(mode="json"))
    features.write(folder / "features.h5ad")
    classifier.save(folder / "classifier")
    table.to_csv(folder / "cells.csv", index=False)


def _differential(
    table: pd.DataFrame, probabilities: np.ndarray, info: ClassifierInfo, options: CountOptions
) -> dict[str, Any]:
    """What ``differential.json`` holds."""
    aside, novel = (table[column].to_numpy() for column in ("set_aside", "novel"))
    counted = aside == ""
    return {
        **count(probabilities[counted], info, options),
        "n_imaged": len(table),
        "set_aside": tally(aside),
        "novelty": novelty_of_sample(novel[counted], info.novelty),
    }
