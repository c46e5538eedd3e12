import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.classify import classify
from leukoscope.differential.fit import fit
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.encoders.features import Features

from .conftest import KINDS, write_set


@pytest.fixture(scope="module")
def classifier(features: Features, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return fit(features, tmp_path_factory.mktemp("fit") / "classifier")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    kinds = np.repeat([0, 1, 2], [10, 60, 130])
    return write_set(tmp_path_factory.mktemp("sample") / "sample.set", kinds, seed=7)


def test_a_sample_is_counted(sample: CellSet, encoder: Encoder, classifier: Classifier, tmp_path: Path) -> None:
    found = classify(sample, encoder, classifier, tmp_path / "run", device="cpu")
    table = pd.read_csv(tmp_path / "run" / "cells.csv")
    assert list(table.columns) == ["cell_id", "predicted", "p_EOS", "p_LYM", "p_NEU", "doubt"]
    assert list(table["cell_id"]) == list(sample.ids)
    np.testing.assert_allclose(table[["p_EOS", "p_LYM", "p_NEU"]].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(table["doubt"], 1 - table[["p_EOS", "p_LYM", "p_NEU"]].max(axis=1), atol=1e-5)
    assert json.loads((tmp_path / "run" / "differential.json").read_text()) == found
    assert {name: row["count"] for name, row in found["classes"].items()} == {
        name: int((table["predicted"] == name).sum()) for name in KINDS
    }
    truth = np.array([0.05, 0.30, 0.65])
    raw = np.array([row["proportion"] for row in found["classes"].values()])
    adjusted = np.array([row["adjusted_proportion"] for row in found["classes"].values()])
    assert np.abs(adjusted - truth).sum() < max(np.abs(raw - truth).sum(), 0.1)
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert provenance["fingerprints"]["encoder"] == encoder.fingerprint


def test_another_encoder_is_refused(sample: CellSet, classifier: Classifier, tmp_path: Path) -> None:
    other = random_encoder("resnet18", sample, size=24, seed=1)
    with pytest.raises(
        InputError, match=r"fitted on features of another encoder .* than this one .*; fit it anew"
    ) as e:
        classify(sample, other, classifier, tmp_path / "run")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "run").exists()


def test_another_camera_is_refused(encoder: Encoder, classifier: Classifier, tmp_path: Path) -> None:
    deep = write_set(tmp_path / "deep.set", np.arange(6) % 3, seed=1, bits=12)
    with pytest.raises(InputError, match=r"deep\.set: has 12 bits, the classifier learned from 8"):
        classify(deep, encoder, classifier, tmp_path / "run")
    coarse = write_set(tmp_path / "coarse.set", np.arange(6) % 3, seed=1, pixel_size_um=0.6)
    with pytest.raises(InputError, match=r"coarse\.set: images show 14\.4 um, the classifier learned from .* 12 um"):
        classify(coarse, encoder, classifier, tmp_path / "run")


def test_an_existing_run_is_not_overwritten_unasked(
    sample: CellSet, encoder: Encoder, classifier: Classifier, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="run: exists already; choose another name or give --overwrite"):
        classify(sample, encoder, classifier, tmp_path / "run")
