from pathlib import Path

import pytest

from leukoscope.cells.simulate import simulate
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.study.encoders import largest_rankme, make_encoders
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


def test_epochs_that_are_kept_are_trials_beside_those_of_a_sweep(tmp_path: Path) -> None:
    cells = simulate(tmp_path / "c.set", cells=32, size=32)
    train = {"epochs": 3, "batch": 8, "monitor_cells": 32, "collapse_steps": 0, "lr": {"sweep": [0.01, 0.1]}}
    method = {"method": "barlow_twins", "method_settings": {"hidden": 16, "dim": 8}, "backbone": "test_resnet"}
    plan = {"cells": ["cells"], "pretrain": {**method, "size": 32, "keep_every": 2, "train": train}}
    sets = {"cells": {"open": str(cells.path)}}
    data = {"name": "kept", "title": "Epochs", "device": "cpu", "sets": sets, "encoders": {"twins": plan}, "tasks": {}}
    bundles = make_encoders(Workspace(tmp_path / "out", Recipe.parse(data, where="recipe")), ["twins"])["twins"]
    assert list(bundles) == [f"train.lr={lr},epoch={epoch}" for lr in (0.01, 0.1) for epoch in (2, 3)]
    assert len({Encoder.load(path).fingerprint for path in bundles.values()}) == 4
    best, scores = largest_rankme(bundles)
    assert scores.keys() == bundles.keys()
    assert scores[best] == max(scores.values())
