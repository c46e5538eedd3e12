"""Encoders that learn from labels: inside every training fold, never from a test cell."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from leukoscope.common.errors import InputError
from leukoscope.common.files import read_json
from leukoscope.study.recipe import read_recipe
from leukoscope.study.run import study
from leukoscope.study.workspace import Workspace

TAUGHT = {
    "method": "supervised",
    "backbone": "test_resnet",
    "size": 24,
    "policy": {"views": [{"count": 1}]},
    "train": {"epochs": 1, "batch": 16, "optimiser": "adamw", "lr": 0.003, "monitor_cells": 20},
}
TUNED = {"on": {"encoder": "inside", "preset": None, "batch": 16, "stages": {"all": {"epochs": 1, "lr": 0.001}}}}
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "title": "A tiny study",
    "sets": {
        "cells": {"simulate": {"cells": 150, "size": 24, "classes": ["LYM", "NEU", "K562"], "patients": 10}},
        "others": {"simulate": {"cells": 60, "size": 24, "classes": ["MON", "EOS"], "patients": 6, "seed": 7}},
    },
    "encoders": {
        "random": {"cells": ["cells"], "random": {"backbone": "test_resnet", "size": 24}},
        "inside": {"cells": ["cells"], "pretrain": TAUGHT},
        "before": {"cells": ["others"], "pretrain": TAUGHT},
    },
    "tasks": {
        "kinds": {
            "cells": "cells",
            "merge": {"leukocyte": ["LYM", "NEU"]},
            "heads": ["linear"],
            "folds": 3,
            "finetune": TUNED,
        }
    },
}


def written(folder: Path, recipe: dict[str, Any]) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("taught")
    recipe = written(folder, RECIPE)
    return recipe, folder / "out", study(recipe, folder / "out", jobs=1)


def test_each_folds_encoder_has_seen_its_training_cells_and_no_other(
    done: tuple[Path, Path, dict[str, Any]],
) -> None:
    recipe, out, _ = done
    cellset, _ = Workspace(out, read_recipe(recipe)).annotated(read_recipe(recipe).tasks["kinds"])
    folds = pd.read_parquet(out / "tasks" / "kinds" / "folds.parquet")
    for fold in range(3):
        train = set(folds.loc[(folds["fold"] == fold) & (folds["role"] == "train"), "cell_id"])
        info = read_json(out / "encoders" / "inside" / f"kinds-r0f{fold}" / "encoder" / "encoder.json")
        assert info["pixels_fingerprint"] == cellset.select(np.isin(cellset.ids, list(train))).pixels_fingerprint
        assert info["learned_classes"] == ["K562", "leukocyte"]
    assert not (out / "encoders" / "inside" / "encoder").exists()


def test_every_cell_is_judged_by_the_encoder_that_did_not_see_it(done: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, _ = done
    folds = pd.read_parquet(out / "tasks" / "kinds" / "folds.parquet")
    tested = folds[folds["role"] == "test"].set_index("cell_id")["fold"]
    every = pd.read_parquet(out / "tasks" / "kinds" / "predictions.parquet")
    # The frozen encoder under its head, and the same trained on with its head, fold by fold.
    for name, head in (("inside", "linear"), ("on", "finetuned")):
        found = every[(every["encoder"] == name) & (every["head"] == head)]
        assert len(found) == 150
        assert (found.set_index("cell_id")["fold"] == tested.loc[found["cell_id"]].to_numpy()).all()


def test_tables_keep_what_was_told_labels_apart(done: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, results = done
    told = results["tasks"]["kinds"]["encoders"]
    assert {name: (each["seen_in_pretraining"], each["with_labels"]) for name, each in told.items()} == {
        "random": ("none", False),
        "inside": ("training folds", True),
        "before": ("none", True),
    }
    page = (out / "tasks" / "kinds" / "report.html").read_text(encoding="utf-8")
    block = page.index("Encoders pre-trained with labels")
    assert page.index("Frozen encoders, heads fitted") < block < page.index(">inside<", block)
    assert "It never saw their labels" not in page


def test_the_same_call_repeats_nothing(done: tuple[Path, Path, dict[str, Any]]) -> None:
    recipe, out, results = done
    checkpoint = out / "encoders" / "inside" / "kinds-r0f1" / "checkpoint.pt"
    before = checkpoint.stat().st_mtime_ns
    assert study(recipe, out, jobs=1)["tasks"] == results["tasks"]
    assert checkpoint.stat().st_mtime_ns == before


def test_what_cannot_be_done_inside_folds_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    train = {**TAUGHT["train"], "lr": {"sweep": [0.1, 0.2]}}
    swept = {**RECIPE["encoders"]["inside"], "pretrain": {**TAUGHT, "train": train}}
    recipe = written(tmp_path, {**RECIPE, "encoders": {"inside": {**swept, "choose": "inner"}}})
    with pytest.raises(InputError, match=r"encoders\.inside: it is taught inside every training fold; a sweep"):
        study(recipe, tmp_path / "swept", jobs=1)
    sample = {"one": {"cells": "others", "task": "kinds", "encoder": "inside"}}
    recipe = written(tmp_path, {**RECIPE, "samples": sample})
    with pytest.raises(InputError, match=r"samples\.one: inside is another encoder in each fold"):
        study(recipe, tmp_path / "sample", jobs=1)
    assert not (tmp_path / "sample" / "encoders").exists()
