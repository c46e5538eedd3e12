from pathlib import Path
from typing import Any

import pytest

from leukoscope.common.errors import CheckFailed, InputError
from leukoscope.study.prepare import check_leaks, make_sets
from leukoscope.study.recipe import Recipe
from leukoscope.study.workspace import Workspace

RECIPE: dict[str, Any] = {
    "name": "quality",
    "title": "Normal against spoiled cells",
    "sets": {
        "bad": {"spoil": {"source": "cells.evaluate", "kinds": ["noise", "empty"], "grade": [0.5, 1], "share": 0.4}},
        "cells": {
            "simulate": {"cells": 80, "size": 24, "patients": 10},
            "split": {"pretrain": 0.5, "evaluate": 0.5},
        },
    },
    "encoders": {"moco": {"cells": ["cells.pretrain"], "pretrain": {"size": 24}}},
    "tasks": {"quality": {"cells": "bad", "label": "quality"}},
}


def space(tmp_path: Path, **changes: Any) -> Workspace:
    return Workspace(tmp_path / "out", Recipe.parse({**RECIPE, **changes}, where="recipe"))


def test_a_set_is_spoiled_after_its_source_is_made_and_split(tmp_path: Path) -> None:
    study = space(tmp_path)
    make_sets(study, jobs=1)
    bad, source = study.cells("bad"), study.cells("cells.evaluate")
    assert sorted(bad.cells["spoiled_from"]) == sorted(source.ids)
    assert set(bad.cells["quality"]) == {"normal", "noise", "empty"}
    assert bad.info.packing["spoil"]["share"] == 0.4
    assert not check_leaks(study, allow=False).spoiled
    _, labels = study.annotated(study.recipe.tasks["quality"])
    assert set(labels.table["label"]) == {"normal", "noise", "empty"}


def test_patients_are_made_of_a_part_of_another_set(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("reference: {NEU: [40, 60], LYM: [40, 60]}\ntypes: {healthy: {}}\n")
    made = {"source": "cells.evaluate", "plan": str(plan), "patients": 4, "cells": [3, 4], "pools": 2, "reuse": True}
    study = space(tmp_path, sets={**RECIPE["sets"], "patients": {"cohort": made}})
    make_sets(study, jobs=1)
    patients = study.cells("patients")
    assert patients.cells["patient"].nunique() == 4
    assert set(patients.cells["drawn_from"]) <= set(study.cells("cells.evaluate").ids)


def test_an_encoder_that_saw_the_cells_before_they_were_spoiled_is_refused(tmp_path: Path) -> None:
    wrong = {"moco": {**RECIPE["encoders"]["moco"], "cells": ["cells"]}}
    spoiled = {**RECIPE["sets"]["bad"]["spoil"], "share": 1}
    study = space(tmp_path, encoders=wrong, sets={**RECIPE["sets"], "bad": {"spoil": spoiled}})
    make_sets(study, jobs=1)
    with pytest.raises(CheckFailed, match="--allow-leaks"):
        check_leaks(study, allow=False)


def test_a_wrong_setting_is_named_by_set(tmp_path: Path) -> None:
    study = space(tmp_path, sets={**RECIPE["sets"], "bad": {"spoil": {"source": "cells", "kind": "noise"}}})
    with pytest.raises(InputError, match=r"quality: sets\.bad\.spoil: unknown key 'kind'; did you mean 'kinds'\?"):
        make_sets(study, jobs=1)
