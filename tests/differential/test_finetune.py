from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import CheckFailed, InputError
from leukoscope.common.files import read_json
from leukoscope.differential.calibration import fit_temperature
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.classify import classify
from leukoscope.differential.finetune import finetune
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.encoders.embed import embed
from leukoscope.probes.evaluate import evaluate
from leukoscope.probes.presets import stage_settings
from leukoscope.probes.stages import StageSettings
from leukoscope.scores import predictions
from leukoscope.scores.metrics import score
from leukoscope.scores.rescore import rescore


def settings_of(**others: object) -> StageSettings:
    stages = {"head": {"epochs": 1, "lr": 0.01}, "all": {"epochs": 3, "lr": 0.003}}
    given = {"stages": stages, "batch": 20, "policy": None, "device": "cpu", **others}
    return stage_settings("two-step", given, "x")


@pytest.fixture(scope="module")
def encoder(bars: CellSet) -> Encoder:
    return random_encoder("test_resnet", bars, size=16)


@pytest.fixture(scope="module")
def done(bars: CellSet, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("finetune") / "run"
    return out, finetune(bars, encoder, out, settings=settings_of(), name="two", test_share=0.3, n_bootstrap=50)


def test_the_run_tells_loss_and_accuracy_of_every_part_and_the_drop(done: tuple[Path, dict[str, Any]]) -> None:
    out, results = done
    table = predictions.read(out / "predictions.parquet")
    found = score(table)
    assert results["parts"]["test"]["accuracy"]["value"] == pytest.approx(found["accuracy"])
    assert results["scores"]["two"]["finetuned"]["log_loss"]["mean"] == pytest.approx(found["log_loss"])
    seen = score(predictions.read(out / "predictions-train.parquet"))
    moved = results["drop"]["train_to_test"]
    assert moved["accuracy"]["difference"] == pytest.approx(found["accuracy"] - seen["accuracy"])
    assert moved["log_loss"]["difference"] == pytest.approx(found["log_loss"] - seen["log_loss"])
    told = read_json(out / "results.json")
    assert told["selection"]["epochs"] == [1, 3]
    assert told["parts"]["train"]["n"] + told["parts"]["test"]["n"] == 200
    assert told["provenance"]["fingerprints"]["started_from"]
    assert told["encoders"]["two"]["seen_in_pretraining"] == "none"
    history = pd.read_csv(out / "history.csv")
    assert list(history["fit"]) == ["trial 1"] * 4 + ["refit"] * 4


def test_classify_takes_the_encoder_and_the_head_that_it_left(
    done: tuple[Path, dict[str, Any]], bars: CellSet, tmp_path: Path
) -> None:
    out, _ = done
    table = predictions.read(out / "predictions.parquet")
    tested = bars.select(np.isin(bars.ids, table["cell_id"]))
    classify(tested, Encoder.load(out / "encoder"), out / "classifier", tmp_path / "sample", device="cpu")
    called = pd.read_csv(tmp_path / "sample" / "cells.csv").set_index("cell_id").loc[table["cell_id"]]
    expected = np.where(table["p_bright-left"] > 0.5, "bright-left", "dark-left")
    assert list(called["predicted"]) == list(expected)


def test_the_classifier_is_judged_by_cells_that_it_has_not_seen(done: tuple[Path, dict[str, Any]]) -> None:
    out, results = done
    info = Classifier.load(out / "classifier").info
    assert [list(row) for row in info.confusion] == results["confusion"]["two"]["finetuned"]
    assert info.cross_validated["accuracy"] == pytest.approx(results["parts"]["test"]["accuracy"]["value"])
    held = predictions.read(out / "predictions-validation.parquet")
    temperature = fit_temperature(predictions.probabilities_of(held), predictions.truth_of(held))
    assert info.temperature == pytest.approx(temperature)
    assert (info.folds, info.group, info.chosen) == (1, "slide", {"lr_1": 0.01, "lr_2": 0.003})
    assert sum(info.prevalence) == pytest.approx(1)


def test_it_is_an_evaluation_that_heads_on_frozen_features_can_join(
    done: tuple[Path, dict[str, Any]], bars: CellSet, encoder: Encoder, tmp_path: Path
) -> None:
    out, results = done
    again = rescore(out)
    assert again["scores"] == results["scores"]
    assert again["drop"] == results["drop"]
    folds = pd.read_parquet(out / "folds.parquet")
    beside = evaluate(
        {"frozen": embed(bars, encoder, device="cpu")},
        tmp_path / "beside",
        heads=("linear",),
        folds=folds,
        extra_predictions=predictions.read(out / "predictions.parquet"),
        n_bootstrap=20,
    )
    assert set(beside["scores"]) == {"frozen", "two"}
    assert beside["n"] == results["n"]


def test_the_same_seed_gives_the_same_files(
    done: tuple[Path, dict[str, Any]], bars: CellSet, encoder: Encoder, tmp_path: Path
) -> None:
    out, _ = done
    finetune(bars, encoder, tmp_path / "again", settings=settings_of(), name="two", test_share=0.3, n_bootstrap=50)
    for name in ("encoder/encoder.safetensors", "classifier/classifier.safetensors", "history.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    pd.testing.assert_frame_equal(
        *(pd.read_parquet(each / "predictions.parquet") for each in (out, tmp_path / "again"))
    )


def test_a_run_that_fails_leaves_nothing_that_looks_whole(bars: CellSet, encoder: Encoder, tmp_path: Path) -> None:
    hot = settings_of(stages={"all": {"optimiser": "sgd", "lr": 1e30}})
    with pytest.raises(CheckFailed, match="diverged in epoch 7: the loss is nan; lower the learning rate"):
        finetune(bars, encoder, tmp_path / "run", settings=hot, test_share=0.3, n_bootstrap=0)
    assert list(tmp_path.iterdir()) == []


def test_a_head_alone_leaves_the_encoder_as_it_came(bars: CellSet, encoder: Encoder, tmp_path: Path) -> None:
    settings = stage_settings(
        None, {"stages": {"head": {"trains": "head", "epochs": 1, "lr": 0.01}}, "device": "cpu"}, "x"
    )
    finetune(bars, encoder, tmp_path / "run", settings=settings, test_share=0.3, n_bootstrap=0)
    kept = Encoder.load(tmp_path / "run" / "encoder")
    assert kept.fingerprint == encoder.fingerprint
    assert (kept.info.method, kept.info.learned_classes) == ("random", None)


def test_mistakes_are_named(done: tuple[Path, dict[str, Any]], bars: CellSet, encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists already; choose another name or give --overwrite"):
        finetune(bars, encoder, done[0])
    with pytest.raises(InputError, match="no column 'kind'"):
        finetune(bars, encoder, tmp_path / "x", label="kind")
    hue = {"views": [{"count": 1, "hue": {"turn": 0.1}}]}
    with pytest.raises(InputError, match=r"policy key views\.0\.hue: needs the three channels of RGB"):
        finetune(bars, encoder, tmp_path / "x", settings=settings_of(policy=hue))
    assert not (tmp_path / "x").exists()
