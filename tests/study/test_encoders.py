from pathlib import Path

import pytest

from leukoscope.cells.simulate import simulate
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.study.encoders import make_encoders
from leukoscope.study.recipe import Recipe
from leukoscope.study.workspace import Workspace


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    cells = simulate(tmp_path / "c.set", cells=8, size=32)
    random_encoder("test_resnet", cells, 32, seed=5).save(tmp_path / "bundle")
    given = {
        "bundle": {"encoder": str(tmp_path / "bundle")},
        "baseline": {"encoder": "random:resnet18", "size": 64, "truncate_after": 2},
        "wrong": {"encoder": "random:resnet18", "sise": 64},
    }
    encoders = {name: {"cells": ["cells"], "given": each} for name, each in given.items()}
    sets = {"cells": {"open": str(cells.path)}}
    data = {"name": "given", "title": "Encoders that are there", "sets": sets, "encoders": encoders, "tasks": {}}
    return Workspace(tmp_path / "out", Recipe.parse(data, where="recipe"))


def test_encoders_that_are_there_are_taken_as_embed_takes_them(space: Workspace, tmp_path: Path) -> None:
    bundles = make_encoders(space, ["bundle", "baseline"])
    taken, baseline = (Encoder.load(bundles[name][""]) for name in ("bundle", "baseline"))
    assert taken.fingerprint == Encoder.load(tmp_path / "bundle").fingerprint
    assert (baseline.info.size, baseline.info.truncate_after, baseline.info.feature_dim) == (64, 2, 128)


def test_a_key_that_is_misspelt_is_named_by_its_place_in_the_recipe(space: Workspace) -> None:
    with pytest.raises(InputError, match=r"given: encoders\.wrong\.given: unknown key 'sise'; did you mean 'size'\?"):
        make_encoders(space, ["wrong"])
