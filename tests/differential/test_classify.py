import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.labels import Labels
from leukoscope.cells.spoil import spoil
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.common.errors import InputError
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.classify import classify
from leukoscope.differential.counts import CountOptions
from leukoscope.differential.fit import fit
from leukoscope.differential.leukocytes import Leukocytes
from leukoscope.differential.sample import Sample
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.features import Features
from leukoscope.report.sample_page import write_sample_report

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
    assert (found["n"], found["n_imaged"], found["set_aside"]) == (200, 200, {})
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


def test_distances_that_are_not_known_are_read_as_such(
    sample: CellSet, encoder: Encoder, classifier: Classifier, tmp_path: Path
) -> None:
    forgetful = replace(classifier, reference=None, info=classifier.info.model_copy(update={"novelty": None}))
    classify(sample.select(np.arange(40)), encoder, forgetful, tmp_path / "run", device="cpu")
    table = Sample.open(tmp_path / "run").table
    assert table[["novelty", "mahalanobis"]].isna().all(axis=None)


def test_what_is_no_classified_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no classified sample \(no sample\.json\)"):
        Sample.open(tmp_path)


def test_a_sample_of_another_format_is_refused_before_its_keys_are_read(
    sample: CellSet, encoder: Encoder, classifier: Classifier, tmp_path: Path
) -> None:
    classify(sample.select(np.arange(40)), encoder, classifier, tmp_path / "run", device="cpu")
    told = json.loads((tmp_path / "run" / "sample.json").read_text())
    (tmp_path / "run" / "sample.json").write_text(json.dumps({**told, "format_version": 2, "stain": "none"}))
    with pytest.raises(
        InputError, match=r"sample\.json: format 2, this version reads 1; classify the sample again"
    ) as e:
        Sample.open(tmp_path / "run")
    assert "\n" not in str(e.value)


def test_classes_taken_to_be_leukocytes_are_named_and_a_laboratory_may_say_otherwise(
    features: Features, sample: CellSet, encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    named = Labels(features.cells.assign(label=features.cells["label"].replace({"EOS": "K562"})))
    classifier = fit(features, tmp_path / "classifier", overlay=named)
    cells = sample.select(np.arange(100))
    found = classify(cells, encoder, classifier, tmp_path / "assumed", device="cpu")
    warned = "K562: taken to be leukocytes, as nothing is known of them"
    assert found["assumed_leukocytes"] == ["K562"]
    assert found["classes"]["K562"]["leukocytes"] is not None
    assert warned in caplog.text
    assert warned in (tmp_path / "assumed" / "log.txt").read_text()
    told = "Taken to be leukocytes, as nothing is known of them: K562"
    assert told in write_sample_report(tmp_path / "assumed").read_text()
    caplog.clear()
    ours = Leukocytes({"K562": False, "platlet": False})
    found = classify(cells, encoder, classifier, tmp_path / "said", options=CountOptions(leukocytes=ours), device="cpu")
    assert found["assumed_leukocytes"] == []
    assert found["classes"]["K562"]["leukocytes"] is None
    assert sum(row["leukocytes"]["value"] for row in found["classes"].values() if row["leukocytes"]) == pytest.approx(1)
    assert "taken to be" not in caplog.text
    assert "platlet: no class of the classifier, and no kind of cell that is known; is it misspelt?" in caplog.text
    assert "Taken to be" not in write_sample_report(tmp_path / "said").read_text()


def test_an_unknown_kind_flags_the_sample(encoder: Encoder, classifier: Classifier, tmp_path: Path) -> None:
    strange = write_set(tmp_path / "strange.set", np.arange(120) % 3, seed=2)
    pixels = np.load(strange.path / "images.npy")
    pixels[:40] = 255 - pixels[:40]
    np.save(strange.path / "images.npy", pixels)
    found = classify(CellSet.open(strange.path), encoder, classifier, tmp_path / "run", device="cpu")
    assert found["novelty"]["flag"]
    assert Sample.open(tmp_path / "run").table["novel"][:40].mean() > 0.9


def test_a_review_is_never_overwritten(
    sample: CellSet, encoder: Encoder, classifier: Classifier, tmp_path: Path
) -> None:
    classify(sample, encoder, classifier, tmp_path / "run", device="cpu")
    (tmp_path / "run" / "review.db").write_text("what people said")
    with pytest.raises(InputError, match=r"run: holds what came of a review \(review\.db\), which"):
        classify(sample, encoder, classifier, tmp_path / "run", device="cpu", overwrite=True)
    assert (tmp_path / "run" / "review.db").read_text() == "what people said"


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


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    """60 good cells of a sample, and 20 images of nothing."""
    folder = tmp_path_factory.mktemp("spoiled") / "sample.set"
    good = write_set(folder.with_name("good.set"), np.repeat([0, 1, 2], 20), seed=9, pixel_size_um=0.5).read(
        slice(0, 60)
    )
    nothing = 80 + np.random.default_rng(0).normal(0, 2, (20, 1, 24, 24))
    pixels = np.concatenate([good, nothing.astype(np.uint8)])
    folder.mkdir()
    with CellSetWriter(folder, channels=["grey"], height=24, width=24, dtype=pixels.dtype) as writer:
        writer.add(
            pixels, [{"cell_id": cell_id(each, f"{i}.png"), "source": f"{i}.png"} for i, each in enumerate(pixels)]
        )
        writer.finish(packing={}, pixel_size_um=0.5)
    return CellSet.open(folder)


def test_spoiled_cells_are_set_aside_with_reasons_and_not_counted(
    features: Features, training_set: CellSet, spoiled: CellSet, encoder: Encoder, tmp_path: Path
) -> None:
    classifier = fit(features, tmp_path / "classifier", cells=training_set, false_alarm=0.1)
    found = classify(spoiled, encoder, classifier, tmp_path / "run", device="cpu")
    sample = Sample.open(tmp_path / "run")
    reasons = sample.table["set_aside"].to_numpy()
    assert (reasons[60:] == "empty").mean() > 0.9
    assert (reasons[:60] != "").sum() <= 15
    assert found["n_imaged"] == 80
    assert found["n"] == sample.counted.sum() == (reasons == "").sum()
    assert sum(found["set_aside"].values()) == 80 - found["n"]
    assert next(iter(found["set_aside"])) == "empty"
    assert {name: row["count"] for name, row in found["classes"].items()} == {
        name: int((sample.table["predicted"][reasons == ""] == name).sum()) for name in KINDS
    }
    assert json.loads((tmp_path / "run" / "differential.json").read_text()) == found


def test_a_sample_with_nothing_left_is_refused(
    features: Features, training_set: CellSet, spoiled: CellSet, encoder: Encoder, tmp_path: Path
) -> None:
    classifier = fit(features, tmp_path / "classifier", cells=training_set, false_alarm=0.1)
    empty = spoiled.select(np.arange(60, 66))
    with pytest.raises(InputError, match=r"all 6 cells were set aside \(empty 6\); none is left to count") as error:
        classify(empty, encoder, classifier, tmp_path / "run", device="cpu")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_classifier_of_quality_sets_aside_what_it_does_not_call_normal(
    training_set: CellSet, spoiled: CellSet, encoder: Encoder, classifier: Classifier, tmp_path: Path
) -> None:
    made = spoil(training_set, tmp_path / "spoiled.set", kinds=["empty", "noise"], grade=(1, 1), share=0.6)
    fit(embed(made, encoder, device="cpu"), tmp_path / "quality", label="quality")
    found = classify(spoiled, encoder, classifier, tmp_path / "run", quality=tmp_path / "quality", device="cpu")
    reasons = Sample.open(tmp_path / "run").table["set_aside"].to_numpy()
    assert (reasons[60:] == "empty").mean() > 0.9
    assert (reasons[:60] == "").mean() > 0.7
    assert found["n"] == (reasons == "").sum()


def test_a_classifier_without_normal_cells_is_no_judge_of_quality(
    sample: CellSet, encoder: Encoder, classifier: Classifier, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"--quality: a classifier of EOS, LYM, NEU, and none of these is 'normal'"
    ) as e:
        classify(sample, encoder, classifier, tmp_path / "run", quality=classifier, device="cpu")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "run").exists()
