from pathlib import Path

import numpy as np
import pytest

from leukoscope.cells.simulate import simulate
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import random_encoder
from leukoscope.encoders.readout import Readout
from leukoscope.study.recipe import Recipe
from leukoscope.study.tasks import embedded
from leukoscope.study.workspace import Workspace


def test_features_of_a_set_that_was_packed_anew_meanwhile_are_refused(tmp_path: Path) -> None:
    cells = simulate(tmp_path / "0.set", cells=8, size=24, seed=0, jobs=1)
    anew = simulate(tmp_path / "1.set", cells=8, size=24, seed=1, jobs=1)
    random_encoder("test_resnet", cells, 32).save(tmp_path / "bundle")
    data = {"name": "opened", "title": "Opened", "device": "cpu", "sets": {"cells": {"open": "c.set"}}, "encoders": {}}
    space = Workspace(tmp_path / "out", Recipe.parse(data, where="recipe"))
    first = embedded(space, "kinds", "random", cells, tmp_path / "bundle", readout=Readout())
    again = embedded(space, "kinds", "random", cells, tmp_path / "bundle", readout=Readout())
    np.testing.assert_array_equal(again.x, first.x)
    with pytest.raises(InputError, match=r"random\.h5ad: of other pixels than .*1\.set holds now"):
        embedded(space, "kinds", "random", anew, tmp_path / "bundle", readout=Readout())
