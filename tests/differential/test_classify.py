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
from leukoscope.differential.sample import Sample
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
    told = ["doubt", "novelty", "mahalanobis", "novel", "set_aside"]
    assert list(table.columns) == ["cell_id", "predicted", "p_EOS", "p_LYM", "p_NEU", *told]
    assert found["novelty"]["cells"] == table["novel"].sum() == (table["novelty"] > 1).sum()
    assert not found["novelty"]["flag"]
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


def test_a_classified_sample_opens_with_all_that_its_review_needs(
    sample: CellSet, encoder: Encoder, classifier: Classifier, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "encoder")
    half = sample.select(np.arange(20, 120))
    classify(half, tmp_path / "encoder", classifier, tmp_path / "run", device="cpu")
    opened = Sample.open(tmp_path / "run")
    assert opened.classes == KINDS
    np.testing.assert_array_equal(opened.cellset.ids, half.ids)
    np.testing.assert_array_equal(opened.features.ids, half.ids)
    np.testing.assert_array_equal(opened.predicted, opened.probabilities.argmax(axis=1))
    assert opened.counted.all()
    assert opened.encoder().fingerprint == encoder.fingerprint
    assert opened.classifier.info == classifier.info
    assert opened.differential["n"] == 100


def test_what_is_no_classified_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no classified sample \(no sample\.json\)"):
        Sample.open(tmp_path)


def test_an_unknown_kind_flags_the_sample(encoder: Encoder, classifier: Classifier, tmp_path: Path) -> None:
    strange = write_set(tmp_path / "strange.set", np.arange(120) % 3, seed=2)
    pixels = np.load(strange.path / "images.npy")
    pixels[:40] = 255 - pixels[:40]
    np.save(strange.path / "images.npy", pixels)
    found = classify(CellSet.open(strange.path), encoder, classifier, tmp_path / "run", device="cpu")
    assert found["novelty"]["flag"]
    assert Sample.open(tmp_path / "run").table["novel"][:40].mean() > 0.9


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
