from collections.abc import Callable
from pathlib import Path

import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.baselines import open_encoders
from leukoscope.encoders.bundle import random_encoder


@pytest.fixture
def run(make_set: Callable[..., CellSet], tmp_path: Path) -> Path:
    """A run folder with its bundle, in a folder whose name holds a =."""
    random_encoder("resnet18", make_set("training.set"), size=40).save(tmp_path / "lr=0.1" / "encoder")
    return tmp_path / "lr=0.1"


def test_encoders_are_called_by_run_by_network_or_as_told(make_set: Callable[..., CellSet], run: Path) -> None:
    found = open_encoders([f"{run}/encoder", "random:resnet18", "mine=random:resnet10t"], make_set(), size=32)
    assert list(found) == ["lr=0.1", "random resnet18", "mine"]
    assert [encoder.info.size for encoder in found.values()] == [40, 32, 32]
    assert found["mine"].info.timm_name == "resnet10t"


def test_one_name_for_two_encoders_is_refused(make_set: Callable[..., CellSet]) -> None:
    with pytest.raises(InputError, match="'random resnet18' already; name it with NAME=random:resnet18"):
        open_encoders(["random:resnet18", "random:resnet18"], make_set())


def test_a_size_for_bundles_alone_is_refused(make_set: Callable[..., CellSet], run: Path) -> None:
    with pytest.raises(InputError, match="is a bundle and brings its own size; leave --size out"):
        open_encoders([f"{run}/encoder"], make_set(), size=32)
