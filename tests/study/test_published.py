from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.study.prepare import make_sets
from leukoscope.study.recipe import Recipe
from leukoscope.study.workspace import Workspace


def published(folder: Path) -> Path:
    for code, count in (("NGS", 6), ("BLA", 4)):
        (folder / code).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng([number, count]).integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / code / f"{code}_{number:05d}.png")
    return folder


def workspace(out: Path, **dataset: object) -> Workspace:
    data = {
        "name": "marrow",
        "title": "A published set",
        "sets": {"cells": {"dataset": dataset, "split": {"pretrain": 0.5, "evaluate": 0.5}}},
        "encoders": {},
        "tasks": {},
    }
    return Workspace(out, Recipe.parse(data, where="recipe"))


def test_a_published_set_is_packed_and_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    space = workspace(tmp_path / "out", name="bmc", **{"from": str(published(tmp_path / "in"))}, size=32)
    with caplog.at_level("INFO", logger="leukoscope"):
        make_sets(space, jobs=1)
    cellset = CellSet.open(space.set_path("cells"))
    assert cellset.cells["label"].value_counts().to_dict() == {"segmented neutrophil": 6, "blast": 4}
    assert cellset.info.width == 32
    assert space.split_path("cells").exists()
    assert "differs: blast: 4 packed, 11,973 stated by Matek et al. 2021" in caplog.text


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"name": "bcm", "from": "x"}, "marrow: sets.cells.dataset: no set 'bcm' in the catalogue; did you mean"),
        (
            {"name": "bmc", "from": "in", "siez": 8},
            "marrow: sets.cells.dataset: unknown key 'siez'; did you mean 'size'?",
        ),
    ],
)
def test_a_mistake_names_the_recipe_and_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: dict[str, object], message: str
) -> None:
    published(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        make_sets(workspace(tmp_path / "out", **dataset), jobs=1)
    assert message in str(error.value)
