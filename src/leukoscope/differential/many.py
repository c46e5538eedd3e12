from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.common.files import whole_file
from leukoscope.common.runs import log
from leukoscope.differential.aside import NothingToCount
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.classify import classify
from leukoscope.differential.counts import CountOptions
from leukoscope.differential.sample import Sample, inputs_of
from leukoscope.encoders.bundle import Encoder

TABLE = "differentials.csv"


def classify_each(
    cellset: CellSet,
    encoder: Path,
    classifier: Path,
    out: Path,
    *,
    by: str,
    quality: Classifier | Path | None = None,
    options: CountOptions | None = None,
    fhir: bool = False,
    batch: int = 256,
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
) -> Iterator[Path]:
    """Classify the cells of each sample apart, into a run folder each in ``out``, and yield it when it is done.

    Samples that ``out`` holds already, of the same cells and options, are left as they are, unless ``overwrite``, so
    that a call cut off goes on where it was. Bundles are loaded once for all. A sample of which no cell is fit to be
    counted is left out, with a warning. In the end ``differentials.csv`` holds a row a sample and class; ``share``
    is of the cells counted, ``leukocytes_share`` of the leukocytes.

    Args:
        cellset: cells of many samples.
        encoder: see :func:`~leukoscope.differential.classify.classify`, as for ``classifier``.
        classifier: as ``encoder``.
        out: the folder of all.
        by: the column that names the sample of each cell; cells without one are left out, with a warning.
        quality: as of ``classify``, as the others are.
        options: of the count.
        fhir: as of ``classify``.
        batch: as there.
        device: as there.
        precision: as there.
        overwrite: classify again what is there.

    Raises:
        InputError: when the column is missing or names nothing, a name cannot be a folder's, or a sample is there that
            another classifier called, or of other cells or options.
    """
    values = cellset.column(by)
    names = sorted({str(value) for value in values.dropna()})
    if not names:
        raise InputError(f"{cellset.path}: the column {by!r} names no sample")
    odd = [name for name in names if name in (".", "..") or "/" in name or "\\" in name or not name.strip()]
    if odd:
        raise InputError(f"{cellset.path}: {by} {odd[0]!r} cannot be the name of a folder; rename it")
    if values.isna().any():
        log.warning("%s: %d cells of no %s are left out", cellset.path, int(values.isna().sum()), by)
    loaded, network = Classifier.load(classifier), Encoder.load(encoder)
    quality = Classifier.load(quality) if isinstance(quality, Path) else quality
    options = options or CountOptions()
    counted = list[str]()
    for name in names:
        own = cellset.select((values.astype(str) == name).to_numpy() & values.notna().to_numpy())
        if overwrite or not (out / name / "results.json").is_file():
            try:
                classify(
                    own, network, loaded, out / name, encoder_at=encoder, quality=quality, options=options, fhir=fhir,
                    batch=batch, device=device, precision=precision, overwrite=overwrite,
                )  # fmt: skip
            except NothingToCount as error:
                log.warning("%s: %s", name, error)
                continue
        else:
            inputs = inputs_of(own, loaded, quality, options, precision=precision, fhir=fhir)
            _refuse_other(out / name, loaded, inputs)
            log.info("%s: whole, of the same cells and options; left as it is", out / name)
        counted.append(name)
        yield out / name
    table = pd.DataFrame([row for name in counted for row in _rows(name, Sample.open(out / name))])
    with whole_file(out / TABLE) as partial:
        table.to_csv(partial, index=False)


def _refuse_other(path: Path, classifier: Classifier, inputs: str) -> None:
    """Refuse a sample that is there and would not be the same now, of ``inputs``."""
    there = Sample.open(path)
    if there.classifier.fingerprint != classifier.fingerprint:
        raise InputError(f"{path}: was called by another classifier; give --overwrite to call it anew")
    if there.info.inputs != inputs:
        raise InputError(f"{path}: is of other cells or options; give --overwrite to classify it anew")


def _rows(name: str, sample: Sample) -> Iterator[dict[str, Any]]:
    for kind, row in sample.differential["classes"].items():
        low, high = row["patient"]
        among = row["leukocytes"] or {"value": None, "low": None, "high": None}
        yield {
            "sample": name, "class": kind, "n": sample.differential["n"], "count": row["count"],
            "share": row["corrected_proportion"], "low": low, "high": high,
            "leukocytes_share": among["value"], "leukocytes_low": among["low"], "leukocytes_high": among["high"],
        }  # fmt: skip
