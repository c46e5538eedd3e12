import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells import folds as folds_file
from leukoscope.cells.cellset import CellSet
from leukoscope.cells.few import FewLabels
from leukoscope.cells.labels import Labels
from leukoscope.cells.writer import CellSetWriter
from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features
from leukoscope.probes.evaluate import evaluate
from leukoscope.probes.finetune_folds import FinetunePlan
from leukoscope.probes.supervised import SupervisedSettings
from leukoscope.scores import predictions as predictions_file
from leukoscope.scores.predictions import predictions
from leukoscope.scores.rescore import rescore

QUICK = {"heads": ("linear", "knn"), "n_folds": 3, "n_bootstrap": 50}
KINDS = np.array(["LYM", "MON", "NEU"])


def features(*, spread: float = 1.0, n: int = 90, patients: int = 0, **uns: str) -> Features:
    generator = np.random.default_rng(0)
    truth = np.arange(n) % 3
    x = (3 * np.eye(8)[truth] + spread * generator.normal(size=(n, 8))).astype(np.float32)
    cells = pd.DataFrame({"cell_id": [f"hash{i}:cells#{i}" for i in range(n)], "label": KINDS[truth]})
    if patients:
        cells["patient"] = [f"P{i % patients}" for i in range(n)]
    return Features(x, cells, dict(uns))


def test_a_run_folder_holds_all_that_was_found(tmp_path: Path) -> None:
    two = {"moco": features(encoder_fingerprint="abc"), "random": features(spread=4.0, method="random")}
    results = evaluate(two, tmp_path / "run", **QUICK, task="three kinds")
    for name in ("log.txt", "recipe.yaml", "provenance.json", "choices.csv", "tried.csv", "tables/scores.csv"):
        assert (tmp_path / "run" / name).is_file(), name
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    assert written.pop("provenance")["fingerprints"] == {"moco.encoder": "abc"}
    assert written == results
    assert results["classes"] == ["LYM", "MON", "NEU"]
    assert (results["n"], results["folds"], results["task"]) == (90, 3, "three kinds")
    assert (
        results["scores"]["moco"]["linear"]["accuracy"]["low"] > results["scores"]["random"]["knn"]["accuracy"]["high"]
    )
    assert np.sum(results["confusion"]["random"]["linear"]) == 90
    assert {row["metric"] for row in results["significance"]} == {
        "accuracy", "precision_macro", "recall_macro", "f1_macro"
    }  # fmt: skip
    table = predictions_file.read(tmp_path / "run" / "predictions.parquet")
    assert len(table) == 4 * 90


def test_the_log_says_in_words_that_cells_are_not_grouped(tmp_path: Path) -> None:
    evaluate({"e": features()}, tmp_path / "run", **{**QUICK, "heads": ("knn-1",)})
    assert "90 cells of 3 classes, not grouped" in (tmp_path / "run" / "log.txt").read_text()


def test_few_labels_leave_their_predictions_and_scores(tmp_path: Path) -> None:
    plan = FewLabels(counts=(6, 30), draws=2, heads=("knn-1",))
    results = evaluate({"e": features()}, tmp_path / "run", **QUICK, few=plan)
    scores = results["few_labels"]["scores"]
    assert scores["30"]["e"]["knn-1"]["accuracy"]["mean"] > scores["6"]["e"]["knn-1"]["accuracy"]["mean"]
    table = pd.read_csv(tmp_path / "run" / "tables" / "few_labels.csv")
    assert sorted(table["labels"].unique()) == [6, 30]
    folds = folds_file.read(tmp_path / "run" / "few_labels" / "6" / "folds.parquet")
    assert (folds[folds["role"] == "train"].groupby(["repeat", "fold"]).size() == 6).all()
    assert len(predictions_file.read(tmp_path / "run" / "few_labels" / "6" / "predictions.parquet")) == 2 * 90


def test_rescoring_gives_identical_results_without_a_model(tmp_path: Path) -> None:
    evaluate({"e": features(patients=15)}, tmp_path / "run", **QUICK, seed=7)
    before = (tmp_path / "run" / "results.json").read_text()
    tables = {path.name: path.read_text() for path in (tmp_path / "run" / "tables").iterdir()}
    results = rescore(tmp_path / "run")
    assert (tmp_path / "run" / "results.json").read_text() == before
    assert {path.name: path.read_text() for path in (tmp_path / "run" / "tables").iterdir()} == tables
    assert results["intervals"] == {"level": 0.95, "resampled": "groups", "units": 15, "resamples": 50, "seed": 7}
    (tmp_path / "run" / "results.json").unlink()
    assert rescore(tmp_path / "run")["scores"] == results["scores"]


def test_groups_of_classes_are_scored_and_come_back_when_scored_again(tmp_path: Path) -> None:
    groups = {"granulocyte": ["NEU"], "other": "*"}
    results = evaluate({"e": features(spread=3, patients=15)}, tmp_path / "run", **QUICK, groups=groups)
    assert results["groups"]["of"] == {"granulocyte": ["NEU"], "other": ["LYM", "MON"]}
    scores, of_groups = results["scores"]["e"]["linear"], results["groups"]["scores"]["e"]["linear"]
    assert of_groups["accuracy"]["mean"] > scores["accuracy"]["mean"]
    before = (tmp_path / "run" / "results.json").read_text()
    rescore(tmp_path / "run")
    assert (tmp_path / "run" / "results.json").read_text() == before
    with pytest.raises(InputError, match="'LYM' is in none of them"):
        evaluate({"e": features()}, tmp_path / "x", **QUICK, groups={"a": ["NEU"], "b": ["MON"]})
    assert not (tmp_path / "x").exists()


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    one, two = (evaluate({"e": features(spread=3)}, tmp_path / name, **QUICK, seed=1) for name in "ab")
    assert one == two


def test_features_in_another_order_are_aligned_by_cell(tmp_path: Path) -> None:
    shuffled = features().select(np.random.default_rng(1).permutation(90))
    results = evaluate({"a": features(), "b": shuffled}, tmp_path / "run", **QUICK)
    assert results["scores"]["a"]["linear"] == results["scores"]["b"]["linear"]


@pytest.mark.parametrize(("group", "expected"), [(None, "patient"), ("none", None), ("label", "label")])
def test_folds_follow_patients_where_they_are_known(tmp_path: Path, group: str | None, expected: str | None) -> None:
    found = features(patients=15)
    if group == "label":
        with pytest.raises(InputError, match="groups of 'label' are too few"):
            evaluate({"e": found}, tmp_path / "run", **QUICK, group=group)
        return
    results = evaluate({"e": found}, tmp_path / "run", **QUICK, group=group)
    assert results["group"] == expected
    folds = folds_file.read(tmp_path / "run" / "folds.parquet")
    test = folds[folds["role"] == "test"].merge(found.cells, on="cell_id")
    assert (test.groupby("patient")["fold"].nunique() == 1).all() == (expected == "patient")
    assert ("group" in folds.columns) == (expected is not None)


def test_labels_laid_over_the_table_decide_and_unlabelled_cells_take_no_part(tmp_path: Path) -> None:
    found = features()
    overlay = Labels(found.cells.iloc[:60].assign(label=lambda t: t["label"].replace("MON", "NEU")))
    results = evaluate({"e": found}, tmp_path / "run", **QUICK, overlay=overlay)
    assert results["classes"] == ["LYM", "NEU"]
    assert results["n"] == 60


def test_baselines_on_the_same_folds_stand_beside_the_heads(tmp_path: Path) -> None:
    evaluate({"e": features()}, tmp_path / "first", **QUICK)
    folds = folds_file.read(tmp_path / "first" / "folds.parquet")
    test = folds[folds["role"] == "test"].merge(features().cells, on="cell_id")
    baseline = pd.concat(
        [
            predictions(
                rows["cell_id"].to_numpy(),
                rows["label"].to_numpy(),
                np.full((len(rows), 3), [0.2, 0.3, 0.5]),
                KINDS.tolist(),
                encoder="supervised",
                head="constant",
                fold=int(str(fold)),
            )
            for fold, rows in test.groupby("fold")
        ]
    )
    results = evaluate({"e": features()}, tmp_path / "run", **QUICK, folds=folds, extra_predictions=baseline)
    assert results["scores"]["supervised"]["constant"]["accuracy"]["mean"] == pytest.approx(1 / 3)
    assert ("e/linear", "supervised/constant") in {(row["a"], row["b"]) for row in results["significance"]}
    with pytest.raises(InputError, match="extra_predictions: encoder supervised, head constant, seed 0 did not test"):
        evaluate({"e": features()}, tmp_path / "x", **QUICK, seed=5, extra_predictions=baseline)


def images_of(found: Features, folder: Path) -> CellSet:
    folder.mkdir()
    with CellSetWriter(folder, channels=["grey"], height=8, width=8, dtype=np.dtype(np.uint8)) as writer:
        kind = found.cells["label"].map(list(KINDS).index).to_numpy()
        pixels = np.random.default_rng(0).integers(0, 60, (len(found), 1, 8, 8)) + 90 * kind[:, None, None, None]
        writer.add(pixels.astype(np.uint8), found.cells[["cell_id"]].to_dict("records"))
        writer.finish(packing={})
    return CellSet.open(folder)


def test_networks_from_scratch_are_held_to_the_same_folds(tmp_path: Path) -> None:
    found = features()
    networks = {"mlp": SupervisedSettings(size=8, epochs=6, batch=16, policy=None)}
    cellset = images_of(found, tmp_path / "cells.set")
    results = evaluate({"e": found}, tmp_path / "run", **QUICK, cellset=cellset, supervised=networks)
    assert results["scores"]["supervised"]["mlp"]["accuracy"]["mean"] > 0.9
    with pytest.raises(InputError, match="supervised mlp: needs the images; give --cells SET"):
        evaluate({"e": found}, tmp_path / "x", **QUICK, supervised=networks)


def test_fine_tuned_encoders_stand_beside_frozen_ones_in_the_same_folds(tmp_path: Path) -> None:
    found = features()
    cellset = images_of(found, tmp_path / "cells.set")
    stages = {"all": {"epochs": 6, "lr": 0.01}}
    given = {"encoder": "random:test_resnet", "size": 8, "preset": None, "stages": stages, "batch": 8, "device": "cpu"}
    plans = {"tuned": FinetunePlan.of(given, "x")}
    results = evaluate({"e": found}, tmp_path / "run", **QUICK, cellset=cellset, finetune=plans)
    assert results["scores"]["tuned"]["finetuned"]["accuracy"]["mean"] > 0.8
    assert ("e/linear", "tuned/finetuned") in {(row["a"], row["b"]) for row in results["significance"]}
    assert results["encoders"]["tuned"]["seen_in_pretraining"] == "none"
    with pytest.raises(InputError, match="finetune tuned: needs the images; give --cells SET"):
        evaluate({"e": found}, tmp_path / "x", **QUICK, finetune=plans)


def test_networks_are_fine_tuned_on_few_cells_as_heads_are(tmp_path: Path) -> None:
    found = features()
    cellset = images_of(found, tmp_path / "cells.set")
    given = {"encoder": "random:test_resnet", "size": 8, "preset": None, "stages": {"all": {"epochs": 6, "lr": 0.01}}}
    plans = {"tuned": FinetunePlan.of({**given, "batch": 8, "device": "cpu", "precision": "fp32"}, "x")}
    few = FewLabels(counts=(6, 30), draws=2, heads=("knn-1",), finetune=("tuned",))
    results = evaluate({"e": found}, tmp_path / "run", **QUICK, cellset=cellset, finetune=plans, few=few)
    scores = results["few_labels"]["scores"]
    assert (
        scores["30"]["tuned"]["finetuned"]["accuracy"]["mean"] > scores["6"]["tuned"]["finetuned"]["accuracy"]["mean"]
    )
    kept = predictions_file.read(tmp_path / "run" / "few_labels" / "6" / "predictions.parquet")
    alike = kept.groupby("encoder").apply(
        lambda rows: set(zip(rows["repeat"], rows["fold"], rows["cell_id"], strict=True))
    )
    assert alike["tuned"] == alike["e"]
    unknown = FewLabels(finetune=("other",))
    with pytest.raises(InputError, match=r"few\.finetune: no network 'other'; there are tuned"):
        evaluate({"e": found}, tmp_path / "x", **QUICK, cellset=cellset, finetune=plans, few=unknown)


def test_cells_seen_in_pre_training_are_told(tmp_path: Path) -> None:
    found = features(pixels_fingerprint="p", method="moco")
    pretrain = [images_of(found.select(np.arange(5)), tmp_path / "pretrain.set")]
    same = features(pixels_fingerprint="p", pretrained_on="p", method="moco")
    random = features(method="random")
    among = features(pixels_fingerprint="p", pretrained_on="q+p", method="moco")
    given = {"a": found, "b": same, "c": among, "r": random}
    results = evaluate(given, tmp_path / "run", **QUICK, pretrain=pretrain)
    assert [results["encoders"][name]["seen_in_pretraining"] for name in given] == [5, "all", "all", "none"]
    assert results["notes"][0] == "a: 5 of the evaluated cells were seen, without labels, in its pre-training."
    results = evaluate({"a": found}, tmp_path / "unknown", **QUICK)
    assert results["encoders"]["a"]["seen_in_pretraining"] == "unknown"


def test_an_encoder_answers_for_its_own_cells_only(tmp_path: Path) -> None:
    pretrain = images_of(features().select(np.arange(5)), tmp_path / "pretrain.set")
    given = {
        "own": features(method="moco", pretrained_on=pretrain.pixels_fingerprint),
        "other": features(method="moco", pretrained_on=f"{pretrain.pixels_fingerprint}+another"),
        "imagenet": features(method="imagenet"),
    }
    encoders = evaluate(given, tmp_path / "run", **QUICK, pretrain=[pretrain])["encoders"]
    assert {name: told["seen_in_pretraining"] for name, told in encoders.items()} == {
        "own": 5,
        "other": "unknown",
        "imagenet": "none",
    }


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({}, {}, "no features to evaluate"),
        ({"a": features(), "b": features(n=60)}, {}, "b: its features are not of the same cells as those of a"),
        ({"a": features()}, {"label": "kind"}, "--label kind: no such column in the features' table; it has cell_id"),
        ({"a": features()}, {"group": "donor"}, "--group donor: no such column"),
        ({"a": features()}, {"heads": ("svm",)}, "svm"),
        ({"a": features().select(np.arange(9))}, {"n_folds": 5}, "3 cells are too few for 5 folds"),
        ({"a": features().select(np.zeros(3, dtype=int))}, {}, "a: cell hash0:cells#0 occurs twice"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, given: dict, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(given, tmp_path / "run", **{**QUICK, **options})
    assert not (tmp_path / "run").exists()


def test_folds_of_other_cells_are_refused(tmp_path: Path) -> None:
    evaluate({"e": features()}, tmp_path / "run", **QUICK)
    folds = folds_file.read(tmp_path / "run" / "folds.parquet")
    with pytest.raises(InputError, match="folds: 30 of their cells have no features, the first is hash60:cells#60"):
        evaluate({"e": features(n=60)}, tmp_path / "x", **QUICK, folds=folds)
    with pytest.raises(InputError, match="exists already"):
        evaluate({"e": features()}, tmp_path / "run", **QUICK)
