import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from leukoscope.cells.simulate import simulate
from leukoscope.common.errors import CheckFailed, InputError
from leukoscope.common.files import read_json
from leukoscope.encoders.features import Features
from leukoscope.study.run import study

TWO_STEP = {
    "encoder": "random",
    "batch": 16,
    "stages": {"head": {"epochs": 1}, "all": {"epochs": 1, "lr": 0.001}},
}
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "title": "A tiny study",
    "sets": {
        "cells": {
            "simulate": {"cells": 240, "size": 32, "classes": ["LYM", "NEU", "K562"], "patients": 12},
            "split": {"pretrain": 0.4, "evaluate": 0.6},
        },
        "patient": {"simulate": {"cells": 40, "size": 32, "classes": ["LYM", "NEU", "K562"], "patients": 1, "seed": 9}},
    },
    "encoders": {
        "moco": {
            "cells": ["cells.pretrain"],
            "choose": "inner",
            "pretrain": {
                "size": 32,
                "normalise": "set",
                "method_settings": {"queue": 32, "norm_groups": 2},
                "train": {"epochs": 1, "batch": 16, "lr": {"sweep": [0.01, 0.05]}, "monitor_cells": 32},
            },
        },
        "random": {"cells": ["cells.pretrain"], "random": {"size": 32}},
    },
    "tasks": {
        "kinds": {
            "cells": "cells.evaluate",
            "merge": {"leukocyte": ["LYM", "NEU"]},
            "groups": {"white": ["leukocyte"], "line": "*"},
            "group": "none",
            "heads": ["linear", "knn"],
            "folds": 3,
            "supervised": {"mlp": {"size": 32, "epochs": 1, "batch": 16}},
            "few_labels": {"counts": [4, 20], "draws": 1, "heads": ["knn-1"], "finetune": ["two-step"]},
            "finetune": {"two-step": TWO_STEP},
        }
    },
    "shifts": {
        "elsewhere": {"cells": "patient", "task": "kinds", "merge": {"leukocyte": ["LYM", "NEU"]}, "heads": ["knn"]}
    },
    "samples": {"patient": {"cells": "patient", "task": "kinds", "encoder": "random"}},
}


def written(folder: Path, recipe: dict[str, Any]) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("study")
    recipe = written(folder, RECIPE)
    return recipe, folder / "out", study(recipe, folder / "out", jobs=1)


def test_every_encoder_trial_and_baseline_is_scored_on_the_same_cells(done: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, results = done
    scores = results["tasks"]["kinds"]["scores"]
    trials = {"moco:train.lr=0.01", "moco:train.lr=0.05"}
    assert set(scores) == {*trials, "moco (chosen)", "random", "supervised", "two-step"}
    assert results["tasks"]["kinds"]["classes"] == ["K562", "leukocyte"]
    table = pd.read_parquet(out / "tasks/kinds/predictions.parquet")
    cells = {name: frozenset(rows["cell_id"]) for name, rows in table.groupby(["encoder", "head"])}
    assert len(set(cells.values())) == 1
    assert results["tasks"]["kinds"]["groups"]["of"] == {"white": ["leukocyte"], "line": ["K562"]}
    assert set(results["tasks"]["kinds"]["groups"]["scores"]) == set(scores)
    assert set(results["tasks"]["kinds"]["few_labels"]["scores"]["4"]) == {*trials, "random", "two-step"}
    assert set(table.loc[table["encoder"] == "two-step", "head"]) == {"finetuned"}
    page = (out / "tasks/kinds/report.html").read_text(encoding="utf-8")
    block = page.index("Encoders fine-tuned with the labels of the training cells")
    assert page.index("Frozen encoders, heads fitted") < block < page.index(">two-step<", block)


def test_the_sweep_says_what_won_and_by_which_score(done: tuple[Path, Path, dict[str, Any]]) -> None:
    sweep = done[2]["sweeps"]["moco"]
    assert sweep["score"] == "inner"
    assert set(sweep["rankme"]) == {"train.lr=0.01", "train.lr=0.05"}
    chosen = pd.read_csv(done[1] / "tasks/kinds/chosen.csv")
    assert set(chosen["name"]) == {"moco (chosen)"}
    assert list(chosen["fold"]) == [0, 1, 2]


def test_the_sample_is_counted_beside_its_truth(done: tuple[Path, Path, dict[str, Any]]) -> None:
    sample = done[2]["samples"]["patient"]
    assert sum(sample["truth"].values()) == 40
    assert sum(found["count"] for found in sample["classes"].values()) == 40
    assert set(sample["truth"]) == set(sample["classes"]) == {"K562", "leukocyte"}


def test_heads_are_tried_on_cells_of_another_origin(done: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, results = done
    drop = results["shifts"]["elsewhere"]["drop"]
    assert {"random", "random + batch-norm", "random + colour"} <= set(drop)
    known = results["tasks"]["kinds"]["scores"]["random"]["knn"]["accuracy"]["mean"]
    assert results["shifts"]["elsewhere"]["n"]["new"] == 40
    assert drop["random"]["knn"]["accuracy"]["known"] == pytest.approx(known, abs=0.1)
    assert (out / "shifts/elsewhere/tables/drop.csv").is_file()


def test_a_second_call_repeats_nothing_that_is_whole(done: tuple[Path, Path, dict[str, Any]]) -> None:
    recipe, out, results = done
    stages = (
        "sets/cells.set/cellset.json",
        "encoders/random/encoder/encoder.json",
        "finetuned/kinds/two-step.parquet",
        "tasks/kinds/predictions.parquet",
        "samples/patient/differential.json",
    )
    before = [(out / name).stat().st_mtime_ns for name in stages]
    again = study(recipe, out, jobs=1)
    assert [(out / name).stat().st_mtime_ns for name in stages] == before
    assert again["tasks"] == results["tasks"]
    assert read_json(out / "results.json")["tasks"]["kinds"]["n"] == results["tasks"]["kinds"]["n"]


def test_a_study_begun_before_a_key_came_is_gone_on_with(done: tuple[Path, Path, dict[str, Any]]) -> None:
    recipe, out, results = done
    kept = (out / "recipe.yaml").read_text(encoding="utf-8")
    before = yaml.safe_load(kept)
    del before["sets"]["cells"]["spoil"], before["tasks"]["kinds"]["classes"]
    (out / "recipe.yaml").write_text(yaml.safe_dump(before), encoding="utf-8")
    assert study(recipe, out, jobs=1)["tasks"] == results["tasks"]
    assert (out / "recipe.yaml").read_text(encoding="utf-8") == kept


def test_a_folder_of_another_recipe_is_refused(done: tuple[Path, Path, dict[str, Any]]) -> None:
    recipe, out, _ = done
    with pytest.raises(InputError, match=r"another recipe \(it differs in seed, tasks\.kinds\)"):
        study(recipe, out, overrides=["seed=3", "tasks.kinds.folds=4"])


def test_another_set_is_not_opened_in_the_place_of_one_that_was_used(tmp_path: Path) -> None:
    for seed in (0, 1):
        simulate(tmp_path / f"{seed}.set", cells=60, size=24, classes=("LYM", "NEU"), patients=6, seed=seed, jobs=1)
    recipe = {
        "name": "opened",
        "title": "A set that was there before",
        "sets": {"cells": {"open": str(tmp_path / "0.set")}, "later": {"open": str(tmp_path / "0.set")}},
        "encoders": {"random": {"cells": ["cells"], "random": {"backbone": "test_resnet", "size": 32}}},
    }
    out = tmp_path / "out"
    study(written(tmp_path, recipe), out, jobs=1)
    study(written(tmp_path, recipe), out, overrides=[f"sets.later.open={tmp_path}/1.set"], jobs=1)
    with pytest.raises(InputError, match=r"another recipe \(it differs in sets\.cells\)"):
        study(written(tmp_path, recipe), out, overrides=[f"sets.cells.open={tmp_path}/1.set"], jobs=1)


def test_a_shift_is_not_gone_on_with_on_cells_that_were_packed_anew(tmp_path: Path) -> None:
    for name, seed in (("known", 0), ("new", 1), ("anew", 2)):
        simulate(tmp_path / name, cells=60, size=24, classes=("LYM", "NEU"), patients=6, seed=seed, jobs=1)
    recipe = {
        "name": "shifted",
        "title": "Cells of another origin",
        "sets": {name: {"open": str(tmp_path / name)} for name in ("known", "new")},
        "encoders": {"random": {"cells": ["known"], "random": {"backbone": "test_resnet", "size": 32}}},
        "tasks": {"kinds": {"cells": "known", "heads": ["knn-1"], "folds": 3}},
        "shifts": {"elsewhere": {"cells": "new", "task": "kinds", "heads": ["knn-1"], "remedies": []}},
    }
    study(written(tmp_path, recipe), tmp_path / "out", jobs=1)
    shutil.rmtree(tmp_path / "out/shifts/elsewhere")
    shutil.rmtree(tmp_path / "new")
    (tmp_path / "anew").rename(tmp_path / "new")
    with pytest.raises(InputError, match=r"shift-elsewhere/random\.h5ad: of other pixels than .*/new holds now"):
        study(written(tmp_path, recipe), tmp_path / "out", jobs=1)


def test_a_sample_that_was_cut_off_before_its_page_gets_it(done: tuple[Path, Path, dict[str, Any]]) -> None:
    recipe, out, _ = done
    page = out / "samples/patient/report.html"
    counted = (out / "samples/patient/differential.json").stat().st_mtime_ns
    page.unlink()
    study(recipe, out, jobs=1)
    assert page.is_file()
    assert (out / "samples/patient/differential.json").stat().st_mtime_ns == counted


def test_a_study_may_grow_by_a_task(done: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    _, out, results = done
    trained = out / "encoders/moco/train.lr=0.01/results.json"
    before = trained.stat().st_mtime_ns
    simple = {"cells": "cells.evaluate", "group": "none", "heads": ["linear"], "folds": 2}
    grown = {**RECIPE, "tasks": {**RECIPE["tasks"], "all": simple}}
    again = study(written(tmp_path, grown), out, jobs=1)
    assert again["tasks"]["kinds"] == results["tasks"]["kinds"]
    assert again["tasks"]["all"]["classes"] == ["K562", "LYM", "NEU"]
    assert trained.stat().st_mtime_ns == before


def test_what_would_stop_a_study_late_is_told_before_training(tmp_path: Path) -> None:
    task = RECIPE["tasks"]["kinds"]
    wrong = {
        "classes": (["NEU", "EOX"], "no cell of class 'EOX'"),
        "heads": (["linear", "liner"], "no such head"),
        "probes": ({"heads": {"linear": {"c": [1]}}}, "unknown key 'c'"),
        "supervised": ({"resnet19": {}}, "no network 'resnet19'"),
        "finetune": ({"tuned": {"encoder": "mooc"}}, "finetune.tuned: no encoder 'mooc'; choose from moco, random, or"),
        "folds": (500, "too few for 500 folds"),
        "groups": ({"a": ["LYM"], "b": ["NEU"]}, "class groups: 'K562' is in none of them"),
    }
    for key, (value, message) in wrong.items():
        recipe = {**RECIPE, "tasks": {"kinds": {**task, "merge": {}, "few_labels": None, key: value}}}
        with pytest.raises(InputError, match=message):
            study(written(tmp_path, recipe), tmp_path / "out", jobs=1)
    assert not (tmp_path / "out/encoders").exists()


def test_a_sample_takes_the_trial_that_rankme_chose(done: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    moco = {**RECIPE["encoders"]["moco"], "choose": "rankme"}
    sample = {"cells": "patient", "task": "kinds", "encoder": "moco"}
    task = {**RECIPE["tasks"]["kinds"], "heads": ["linear"], "supervised": {}, "finetune": {}, "few_labels": None}
    recipe = {**RECIPE, "encoders": {"moco": moco}, "tasks": {"kinds": task}, "samples": {"patient": sample}}
    results = study(written(tmp_path, recipe), tmp_path / "out", jobs=1)
    chosen = results["sweeps"]["moco"]["chosen"]
    told = read_json(tmp_path / "out/classifiers/kinds-moco-linear/classifier.json")
    features = Features.read(tmp_path / f"out/features/kinds/moco:{chosen}.h5ad")
    assert told["encoder_fingerprint"] == features.uns["encoder_fingerprint"]
    assert sum(found["count"] for found in results["samples"]["patient"]["classes"].values()) == 40


def test_evaluating_pretraining_cells_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    recipe = {
        **RECIPE,
        "encoders": {**RECIPE["encoders"], "moco": {**RECIPE["encoders"]["moco"], "cells": ["cells.evaluate"]}},
        "samples": {},
    }
    with pytest.raises(CheckFailed, match="--allow-leaks"):
        study(written(tmp_path, recipe), tmp_path / "out", jobs=1)
    assert read_json(tmp_path / "out/audit.json")["spoiled"]
    assert not (tmp_path / "out/encoders").exists()
