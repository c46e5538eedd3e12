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
from leukoscope.differential.sample import Sample

TABLE = "differentials.csv"


def classify_each(
    cellset: CellSet, encoder: Path, classifier: Path, out: Path, *, by: str, overwrite: bool = False, **options: Any
) -> Iterator[Path]:
    """Classify the cells of each sample apart, into a run folder each in ``out``, and yield it when it is done.

    Samples that ``out`` holds already are left as they are, unless ``overwrite``, so that a call cut off goes on where
    it was. One of which no cell is fit to be counted is left out, with a warning. In the end ``differentials.csv``
    holds a row a sample and class; shares are of the cells counted.

    Args:
        cellset: cells of many samples.
        encoder: see :func:`~leukoscope.differential.classify.classify`, as for ``classifier``.
        classifier: as ``encoder``.
        out: the folder of all.
        by: the column that names the sample of each cell; cells without one are left out, with a warning.
        overwrite: classify again what is there.
        options: of :func:`~leukoscope.differential.classify.classify`.

    Raises:
        InputError: when the column is missing or names nothing, a name cannot be a folder's, or a sample is there that
            another classifier called.
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
    loaded, counted = Classifier.load(classifier), list[str]()
    for name in names:
        if overwrite or not (out / name / "results.json").is_file():
            own = cellset.select((values.astype(str) == name).to_numpy() & values.notna().to_numpy())
            try:
                classify(own, encoder, loaded, out / name, overwrite=overwrite, **options)
            except NothingToCount as error:
                log.warning("%s: %s", name, error)
                continue
        elif Sample.open(out / name).classifier.info != loaded.info:
            raise InputError(f"{out / name}: was called by another classifier; give --overwrite to call it anew")
        counted.append(name)
        yield out / name
    table = pd.DataFrame([row for name in counted for row in _rows(name, Sample.open(out / name))])
    with whole_file(out / TABLE) as partial:
        table.to_csv(partial, index=False)


def _rows(name: str, sample: Sample) -> Iterator[dict[str, Any]]:
    for kind, row in sample.differential["classes"].items():
        low, high = row["patient"]
        yield {
            "sample": name, "class": kind, "n": sample.differential["n"], "count": row["count"],
            "share": row["corrected_proportion"], "low": low, "high": high,
        }  # fmt: skip
