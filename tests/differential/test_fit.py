import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.labels import Labels
from leukoscope.cells.measures import measure
from leukoscope.common.errors import InputError
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.fit import fit
from leukoscope.differential.quality_limits import learn_quality
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.features import Features
from leukoscope.probes.crossval import ProbeSettings

QUICK = ProbeSettings(device="cpu", heads={"mlp": {"epochs": 4}, "linear": {"C": (0.01, 1.0)}})


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_bundle_gives_back_the_classifier(features: Features, encoder: Encoder, tmp_path: Path, head: str) -> None:
    classifier = fit(features, tmp_path / "classifier", head=head, settings=QUICK)
    loaded = Classifier.load(tmp_path / "classifier")
    assert sorted(path.name for path in (tmp_path / "classifier").iterdir()) == [
        "classifier.json",
        "classifier.safetensors",
        "reference.safetensors",
    ]
    assert loaded.info == classifier.info
    assert np.array_equal(loaded.probabilities(features.x), classifier.probabilities(features.x))
    info = loaded.info
    assert info.encoder_fingerprint == encoder.fingerprint
    assert info.classes == ("EOS", "LYM", "NEU")
    assert np.sum(info.confusion, axis=1).tolist() == [100, 100, 100]
    assert info.prevalence == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert info.cross_validated["accuracy"] == pytest.approx(np.trace(info.confusion) / 300)
    assert info.cross_validated["accuracy"] > 0.6
    assert info.cross_validated["log_loss_calibrated"] <= info.cross_validated["log_loss"] + 1e-6


def test_the_best_head_is_the_one_of_less_log_loss_in_the_folds(features: Features, tmp_path: Path) -> None:
    # One epoch at a rate that moves nothing says nothing, and fifty at a good one a lot.
    for epochs, rate, best in ((1, 1e-9, "linear"), (50, 1e-2, "mlp")):
        mlp = {"epochs": epochs, "learning_rates": (rate,)}
        settings = ProbeSettings(
            device="cpu", heads={"mlp": mlp, "linear": {"C": (1e-6,) if best == "mlp" else (1.0,)}}
        )
        info = fit(features, tmp_path / best, head="best", settings=settings).info
        alone = fit(features, tmp_path / f"{best}-alone", head=best, settings=settings).info
        assert info.head == best
        assert set(info.heads) == {"linear", "mlp"}
        assert info.heads[best] == min(info.heads.values())
        assert info.heads[best] == pytest.approx(info.cross_validated["log_loss_calibrated"], rel=1e-5)
        assert (info.confusion, info.answers) == (alone.confusion, alone.answers)


def test_the_same_seed_gives_the_same_bundle(features: Features, tmp_path: Path) -> None:
    for name in ("a", "b"):
        fit(features, tmp_path / name, head="mlp", seed=5, settings=QUICK)
    for file in ("classifier.json", "classifier.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_overlay_relabels_and_leaves_cells_out(features: Features, tmp_path: Path) -> None:
    kept = features.cells[features.cells["label"] != "EOS"]
    labels = Labels(pd.DataFrame({"cell_id": kept["cell_id"], "label": kept["label"].str.lower()}))
    info = fit(features, tmp_path / "classifier", overlay=labels, group="patient", settings=QUICK).info
    assert info.classes == ("lym", "neu")
    assert np.sum(info.confusion) == 200


@pytest.mark.parametrize(("group", "told"), [(None, "patient"), ("none", None)])
def test_patients_stay_whole_unless_asked(
    features: Features, tmp_path: Path, group: str | None, told: str | None
) -> None:
    info = fit(features, tmp_path / "classifier", group=group, settings=QUICK).info
    assert info.group == told
    rows, answers = np.sum(info.confusion, axis=1), info.answers
    np.testing.assert_array_equal(np.sum(answers.counts, axis=1), rows)
    if told is None:
        assert answers.effective is None
        assert len(answers.centres) == 6
    else:
        assert answers.effective is not None
        assert all(1 <= cells <= row + 1e-9 for cells, row in zip(answers.effective, rows, strict=True))


def test_features_that_do_not_say_where_they_are_from_are_refused(features: Features, tmp_path: Path) -> None:
    stranger = Features(features.x, features.cells, {"bit_depth": 8})
    with pytest.raises(InputError, match="features: uns lacks encoder_fingerprint, timm_name, channels, pixels_finger"):
        fit(stranger, tmp_path / "classifier")
    with pytest.raises(InputError, match="--label kind: no such column in the features' table; it has cell_id"):
        fit(features, tmp_path / "classifier", label="kind")
    assert not (tmp_path / "classifier").exists()


def test_limits_of_quality_are_learned_from_the_labelled_cells(
    features: Features, training_set: CellSet, tmp_path: Path
) -> None:
    assert fit(features, tmp_path / "without", settings=QUICK).info.quality is None
    # In another order, and with cells that are not labelled.
    shuffled = training_set.select(np.random.default_rng(0).permutation(300))
    labels = Labels(features.cells.loc[:249, ["cell_id", "label"]])
    given = {"cells": shuffled, "false_alarm": 0.1, "overlay": labels, "settings": QUICK}
    info = fit(features, tmp_path / "classifier", **given).info
    taught, kinds = training_set.select(np.arange(250)), features.cells["label"].to_numpy(dtype=object)[:250]
    assert info.quality == learn_quality(measure(taught), kinds, false_alarm=0.1)
    assert set(info.quality.lost) == set(info.classes)
    assert info.quality.limits
    assert Classifier.load(tmp_path / "classifier").info == info


def test_cells_that_are_not_those_of_the_features_are_refused(
    features: Features, training_set: CellSet, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"cells\.set: lacks 100 of the 300 labelled cells, such as .*; give the") as e:
        fit(features, tmp_path / "classifier", cells=training_set.select(np.arange(200)))
    assert "\n" not in str(e.value)
    with pytest.raises(InputError, match=r"--false-alarm 1\.5: give a share between 0 and 1"):
        fit(features, tmp_path / "classifier", cells=training_set, false_alarm=1.5)
    assert not (tmp_path / "classifier").exists()


@pytest.fixture
def bundle(features: Features, tmp_path: Path) -> Path:
    fit(features, tmp_path / "classifier", settings=QUICK)
    return tmp_path / "classifier"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 1}, r"classifier\.json: format 1, this version reads 2; fit it anew"),
        ({"clases": []}, r"classifier\.json: unknown key 'clases'; did you mean 'classes'"),
        ({"prevalence": [1.0]}, "prevalence and confusion need one entry for each of the 3 classes"),
        ({"quality": {"limits": {}}}, r"classifier\.json: quality\.false_alarm: required, but not given"),
        ({"head": "mlp"}, r"classifier\.safetensors: does not hold the mlp head of classifier\.json"),
        ({"feature_dim": 7}, r"classifier\.safetensors: does not hold the linear head"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(bundle: Path, changes: dict[str, object], message: str) -> None:
    info = json.loads((bundle / "classifier.json").read_text())
    (bundle / "classifier.json").write_text(json.dumps({**info, **changes}))
    with pytest.raises(InputError, match=message) as error:
        Classifier.load(bundle)
    assert "\n" not in str(error.value)


def test_a_head_of_other_classes_is_refused(bundle: Path) -> None:
    path = bundle / "classifier.safetensors"
    save_file({key: value[:2].clone() for key, value in load_file(path).items()}, path)
    with pytest.raises(InputError, match=r"a head of 2 classes, classifier\.json names 3"):
        Classifier.load(bundle)


def test_a_folder_without_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x: not a classifier bundle \(no classifier\.json\)"):
        Classifier.load(tmp_path / "x")
