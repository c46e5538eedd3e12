import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.common.files import read_json
from leukoscope.common.settings import Settings
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.counts import CountOptions
from leukoscope.differential.sample_table import read_sample_table
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.features import Features

FORMAT_VERSION = 1
_OF_A_CLASS = ("count", "corrected_proportion", "patient", "leukocytes")
"""What ``differential.json`` must say of every class."""


class SampleInfo(Settings):
    """What ``sample.json`` of a classified sample holds: what it was made of, and where that lay.

    ``inputs`` is :func:`inputs_of` all that its count depends on; None where it was classified before that was kept.
    """

    format_version: int = FORMAT_VERSION
    classes: tuple[str, ...]
    cells: str
    pixels_fingerprint: str
    encoder: str | None
    encoder_fingerprint: str
    inputs: str | None = None


def inputs_of(
    cellset: CellSet,
    classifier: Classifier,
    quality: Classifier | None,
    options: CountOptions,
    *,
    precision: str = "auto",
    fhir: bool = False,
) -> str:
    """SHA-256 of all that a sample's count depends on: the arguments of ``classify`` but for where and how fast."""
    told = {
        "pixels": cellset.pixels_fingerprint,
        "cells": cellset.ids.tolist(),
        "classifiers": [each.fingerprint for each in (classifier, quality) if each],
        "ranges": options.ranges.table,
        "leukocytes": options.leukocytes.said,
        "options": [precision, options.total, fhir, options.seed],
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Sample:
    """A sample as ``classify`` left it: ``cells.csv``, ``features.h5ad``, the classifier, and where its pixels lie.

    ``table`` has a row a cell, in the order of the CellSet and the features: ``cell_id``, ``predicted``,
    ``p_<class>``, ``doubt``, ``novelty`` and ``novel`` (empty where the classifier knows no novelty), and
    ``set_aside``, the reason why the cell is not counted, or nothing.
    """

    path: Path
    info: SampleInfo
    table: pd.DataFrame

    @classmethod
    def open(cls, path: Path | str) -> "Sample":
        """Open the run folder ``path`` of ``leukoscope classify``.

        Raises:
            InputError: when it is none, not whole, damaged, or of another format version.
        """
        path = Path(path)
        missing = [name for name in ("sample.json", "cells.csv", "results.json") if not (path / name).is_file()]
        if missing:
            raise InputError(f"{path}: no classified sample (no {missing[0]}); make one with 'leukoscope classify'")
        data, where = read_json(path / "sample.json"), f"{path}/sample.json"
        if (found := data.get("format_version")) != FORMAT_VERSION:
            raise InputError(f"{where}: format {found}, this version reads {FORMAT_VERSION}; classify the sample again")
        info = SampleInfo.parse(data, where=where)
        return cls(path, info, read_sample_table(path, info.classes))

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that cells were called by."""
        return self.info.classes

    @property
    def predicted(self) -> np.ndarray:
        """The index of the class that each cell was called ``(N,)`` int64."""
        return pd.Index(self.classes).get_indexer(pd.Index(self.table["predicted"])).astype(np.int64)

    @property
    def counted(self) -> np.ndarray:
        """Whether each cell counts ``(N,)`` bool: all but those set aside."""
        kept: np.ndarray = (self.table["set_aside"] == "").to_numpy()
        return kept

    @property
    def probabilities(self) -> np.ndarray:
        """Calibrated class probabilities of each cell ``(N, K)`` float64."""
        return self.table[[f"p_{name}" for name in self.classes]].to_numpy(np.float64)

    @cached_property
    def cellset(self) -> CellSet:
        """The pixels of its cells, in the order of ``table``.

        Raises:
            InputError: when the CellSet is not where it was, or is another.
        """
        found = CellSet.open(self.info.cells)
        rows = pd.Index(found.ids).get_indexer(pd.Index(self.table["cell_id"]))
        if (rows < 0).any():
            raise InputError(f"{self.info.cells}: lacks cells of the sample {self.path}; is it another CellSet now?")
        return found if len(rows) == len(found) and (np.diff(rows) == 1).all() else found.select(rows)

    @cached_property
    def features(self) -> Features:
        """Features of its cells, in the order of ``table``."""
        return Features.read(self.path / "features.h5ad")

    @cached_property
    def classifier(self) -> Classifier:
        """The classifier that it was called by."""
        return Classifier.load(self.path / "classifier")

    @cached_property
    def differential(self) -> dict[str, Any]:
        """What ``differential.json`` holds.

        Raises:
            InputError: when it is missing, or does not tell a count of the sample's classes.
        """
        where = self.path / "differential.json"
        told = read_json(where)
        rows = told.get("classes")
        if "n" not in told or not isinstance(rows, dict) or tuple(rows) != self.classes:
            raise InputError(f"{where}: damaged: no count of {', '.join(self.classes)}; classify the sample again")
        for name, row in rows.items():
            if missing := [key for key in _OF_A_CLASS if not isinstance(row, dict) or key not in row]:
                raise InputError(f"{where}: damaged: {name} has no {missing[0]!r}; classify the sample again")
        return told

    def encoder(self) -> Encoder:
        """The encoder that it was embedded by, which alone is not kept with the sample.

        Raises:
            InputError: when it is not where it was, or is another.
        """
        if self.info.encoder is None:
            raise InputError(f"{self.path}: does not say where its encoder lay")
        encoder = Encoder.load(self.info.encoder)
        if encoder.fingerprint != self.info.encoder_fingerprint:
            raise InputError(f"{self.info.encoder}: is another encoder than the sample {self.path} was embedded by")
        return encoder
