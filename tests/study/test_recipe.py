from pathlib import Path

import pytest
import yaml

from leukoscope.bags.baselines import BASELINES
from leukoscope.bags.registry import model_of
from leukoscope.common.errors import InputError
from leukoscope.study.cohorts import bag_settings
from leukoscope.study.encoders import settings_of
from leukoscope.study.finetuned import finetune_plans
from leukoscope.study.recipe import read_recipe
from leukoscope.study.tasks import probe_settings, supervised_settings
from leukoscope.study.workspace import Workspace

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))

SMALL = {
    "name": "small",
    "title": "A small study",
    "sets": {"cells": {"simulate": {"cells": 100}, "split": {"pretrain": 0.6, "evaluate": 0.4}}},
    "encoders": {"moco": {"cells": ["cells.pretrain"], "pretrain": {"size": 32}}},
    "tasks": {"kinds": {"cells": "cells.evaluate"}},
}


def written(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}), encoding="utf-8")
    return path


def moco(**pretrain: object) -> dict[str, object]:
    return {"cells": ["cells"], "pretrain": pretrain}


def spoiled(source: str) -> dict[str, object]:
    return {**SMALL["sets"], "bad": {"spoil": {"source": source}}}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_project_reads_with_all_its_settings(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path)
    space = Workspace(tmp_path, recipe)
    assert recipe.name == path.stem
    for name, encoder in recipe.encoders.items():
        if encoder.pretrain is not None:
            assert settings_of(space, name)
    for name in recipe.tasks:
        probe_settings(space, name)
        supervised_settings(space, name)
        finetune_plans(space, name)
    for name, cohort in recipe.cohorts.items():
        settings = bag_settings(space, name)
        for head in set(cohort.heads) - BASELINES.keys():
            model_of(head, settings.models.get(head, {}))


def test_overrides_reach_inner_keys(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path), ["encoders.moco.pretrain.size=48", "tasks.kinds.folds=3"])
    assert recipe.encoders["moco"].pretrain == {"size": 48}
    assert recipe.tasks["kinds"].folds == 3


def test_variables_are_filled_in_with_their_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(
        tmp_path, sets={"cells": {"open": "${PLACE:-elsewhere}/x.set", "split": SMALL["sets"]["cells"]["split"]}}
    )
    monkeypatch.delenv("PLACE", raising=False)
    assert read_recipe(path).sets["cells"].open == Path("elsewhere/x.set")
    monkeypatch.setenv("PLACE", "here")
    assert read_recipe(path).sets["cells"].open == Path("here/x.set")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tasks": {"kinds": {"cells": "cells.evaluate", "few_labels": {"finetune": ["two-step"]}}}},
            "few_labels.finetune: 'two-step' is not among those of finetune",
        ),
        ({"taks": {}}, "unknown key 'taks'; did you mean 'tasks'?"),
        ({"tasks": {"kinds": {"cells": "cell.evaluate"}}}, "tasks.kinds.cells: no set 'cell'"),
        ({"tasks": {"kinds": {"cells": "cells.test"}}}, "is not split into a part 'test'"),
        ({"tasks": {"a/b": {"cells": "cells"}}}, "becomes a folder"),
        ({"sets": {"cells": {"simulate": {"cells": 9}, "open": "x.set"}}}, "exactly one of pack, dataset, simulate"),
        ({"sets": {"cells": {"dataset": {"name": "bmc"}}}}, "dataset needs the keys name and from"),
        ({"sets": {"bad": {"spoil": {"share": 1}}}}, "sets.bad: spoil needs the key source, a set of the recipe"),
        ({"sets": spoiled("cell")}, "sets.bad.spoil.source: no set 'cell'"),
        ({"sets": spoiled("cells.test")}, "sets.bad.spoil.source: set 'cells' is not split into a part 'test'"),
        (
            {"sets": {**spoiled("cells"), "worse": {"spoil": {"source": "bad"}}}},
            "bad is made of other cells; name the set that they are of",
        ),
        (
            {
                "sets": spoiled("cells"),
                "tasks": {"kinds": {"cells": "bad"}},
                "samples": {"s": {"cells": "cells", "task": "kinds", "encoder": "moco"}},
            },
            "samples.s counts cells of cells, which its classifier is fitted on",
        ),
        (
            {
                "sets": spoiled("cells"),
                "tasks": {"kinds": {"cells": "cells"}},
                "shifts": {"s": {"cells": "bad", "task": "kinds"}},
            },
            "shifts.s tests on cells of bad, which its heads are fitted on",
        ),
        (
            {"sets": {"cells": {"open": "${NOWHERE_AT_ALL}/x.set"}}},
            "the environment variable NOWHERE_AT_ALL is not set",
        ),
        ({"encoders": {"moco": {"cells": ["cells"]}}}, "exactly one of pretrain, random and given"),
        ({"cohorts": {"aml": {"cells": "patients"}}}, "cohorts.aml.cells: no set 'patients'"),
        (
            {
                "cohorts": {"aml": {"cells": "cells", "inside": ["moco"]}},
                "tasks": {"kinds": {"cells": "cells.evaluate", "finetune": {"ft": {"encoder": "moco"}}}},
            },
            "tasks.kinds.finetune: moco is pre-trained inside the folds of cohorts.aml",
        ),
        ({"cohorts": {"aml": {"cells": "cells", "inside": ["dino"]}}}, "'dino' is no encoder that is pre-trained"),
        ({"samples": {"s": {"cells": "cells", "task": "kinds", "encoder": "dino"}}}, "names 'dino'"),
        ({"samples": {"s": {"cells": "cells", "task": "kinds", "encoder": "moco"}}}, "its classifier is fitted on"),
        ({"encoders": {"moco": {"cells": [], "pretrain": {}}}}, "encoders.moco.cells"),
        ({"encoders": {"moco": moco(size={"sweep": 5})}}, "sweep needs a list of values"),
        (
            {
                "encoders": {"moco": {**moco(size={"sweep": [32, 64]}), "choose": "inner"}},
                "tasks": {"kinds": {"cells": "cells", "heads": ["knn"]}},
            },
            "moco is chosen by the linear probe",
        ),
        (
            {"encoders": {"moco": moco(size={"sweep": [32, 64]}, train={"monitor_cells": 0})}},
            "a choice by rankme needs train.monitor_cells",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        read_recipe(written(tmp_path, **changes))
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "recipe.yaml"))
    assert "\n" not in str(error.value)


def test_a_missing_recipe_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")
