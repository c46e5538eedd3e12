"""Cohorts of a recipe: patients judged on every encoder, also on those that are pre-trained inside the folds."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from leukoscope.common.errors import InputError
from leukoscope.common.files import read_json
from leukoscope.encoders.bundle import Encoder
from leukoscope.study.run import study

RECIPE: dict[str, Any] = {
    "name": "patients",
    "title": "Tiny patients",
    "sets": {
        "patients": {
            "simulate": {
                "cells": 180, "size": 24, "patients": 12, "classes": ["LYM", "NEU", "K562"],
                "composition": ["healthy", "myeloid_leukaemia"],
            }
        }
    },
    "encoders": {
        "random": {"cells": ["patients"], "random": {"backbone": "test_resnet", "size": 24}},
        "within": {
            "cells": ["patients"],
            "pretrain": {
                "method": "simclr", "backbone": "test_resnet", "size": 24,
                "train": {"epochs": 1, "batch": 16, "optimiser": "adamw", "lr": 0.003, "monitor_cells": 0},
            },
        },
    },
    "cohorts": {
        "disease": {
            "cells": "patients", "label": "patient_type", "kind": "label", "suspect": ["K562"],
            "heads": ["abmil", "kind-shares"], "folds": 3, "seeds": [0], "flipped": True, "inside": ["within"],
            "mil": {"train": {"epochs": 3}},
        }
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("cohorts")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    return folder, study(folder / "recipe.yaml", folder / "out", jobs=1)


def test_patients_are_judged_on_every_encoder(done: tuple[Path, dict[str, Any]]) -> None:
    folder, results = done
    cohort = results["cohorts"]["disease"]
    assert cohort["n"] == 12
    assert {encoder: set(heads) for encoder, heads in cohort["scores"].items()} == {
        "random": {"abmil", "kind-shares"},
        "within": {"abmil", "kind-shares"},
    }
    assert cohort["encoders"]["within"]["seen_in_pretraining"] == "training folds"
    assert not cohort["encoders"]["within"]["with_labels"]
    run = folder / "out" / "cohorts" / "disease"
    assert (run / "report.html").is_file()
    assert len(list((run / "patients").glob("*.html"))) == 12


def test_an_encoder_inside_a_fold_sees_the_cells_of_training_patients_alone(done: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = done
    out = folder / "out"
    folds = pd.read_parquet(out / "cohorts" / "disease" / "folds.parquet")
    cells = pd.read_parquet(out / "sets" / "patients.set" / "cells.parquet")
    prints = set()
    for fold, rows in folds[folds["role"] == "train"].groupby("fold"):
        run = out / "encoders" / "within" / f"disease-f{fold}"
        count = int(np.isin(cells["patient"], rows["cell_id"]).sum())
        assert read_json(run / "results.json")["n"] == count
        prints.add(Encoder.load(run / "encoder").fingerprint)
    assert len(prints) == 3
    assert not (out / "encoders" / "within" / "encoder").exists()


def test_the_same_call_again_trains_nothing(done: tuple[Path, dict[str, Any]]) -> None:
    folder, results = done
    before = {path: path.stat().st_mtime_ns for path in (folder / "out" / "encoders").rglob("*") if path.is_file()}
    again = study(folder / "recipe.yaml", folder / "out", jobs=1)
    assert again["cohorts"]["disease"]["runs"] == results["cohorts"]["disease"]["runs"]
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "diagnosis"}, "--label diagnosis: no such column"),
        ({"heads": ["abmill"]}, "--head abmill: no such model of bags"),
        ({"mil": {"trian": {}}}, "patients: cohorts.disease.mil: unknown key 'trian'; did you mean 'train'?"),
        ({"folds": 7}, "6 patients are too few for 7 folds"),
        ({"suspect": ["K56"]}, "--suspect K56: no cell is of that kind"),
        ({"kind": None, "suspect": []}, "kind-shares: needs the kinds of cells"),
        ({"heads": ["map-attention"]}, "cohorts.disease.heads: map-attention needs maps: true"),
    ],
)
def test_what_would_stop_a_cohort_late_is_told_before_training(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    recipe = {**RECIPE, "cohorts": {"disease": {**RECIPE["cohorts"]["disease"], **changes}}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with pytest.raises(InputError) as error:
        study(tmp_path / "recipe.yaml", tmp_path / "out", jobs=1)
    assert message in str(error.value)
    assert not (tmp_path / "out" / "encoders").exists()
