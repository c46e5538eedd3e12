from collections.abc import Callable

import numpy as np
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import random_encoder
from leukoscope.explain.placing import lay_map

RANDOM = np.random.default_rng(0)


def textures(count: int) -> np.ndarray:
    """Grey cells, smooth (even) and checked (odd), under noise."""
    checks = 100 * (np.indices((32, 32)).sum(axis=0) // 4 % 2)
    kinds = np.arange(count) % 2
    noise = RANDOM.normal(0, 10, (count, 1, 32, 32))
    return (80 + kinds[:, None, None, None] * checks + noise).clip(0, 255).astype(np.uint8)


def test_new_cells_land_among_their_kind_and_do_not_move_the_map(write_cells: Callable[..., CellSet]) -> None:
    training = write_cells(textures(40), "training.set", label=["smooth", "checked"] * 20, batch=["A"] * 40)
    new = write_cells(textures(12), "new.set", label=["smooth", "checked"] * 6, patient=["P1", "P2", "P2"] * 4)
    encoder = random_encoder("resnet18", training, size=32, seed=0)
    found = lay_map(encoder, training, new, method="tsne", seed=1, device="cpu")
    assert found["set"].tolist() == ["training"] * 40 + ["new"] * 12
    assert {"cell_id", "label", "batch", "patient", "x", "y"} <= set(found.columns)
    assert found["cell_id"].tolist() == [*training.ids, *new.ids]
    alone = lay_map(encoder, training, method="tsne", seed=1, device="cpu")
    np.testing.assert_array_equal(found[["x", "y"]].to_numpy()[:40], alone[["x", "y"]].to_numpy())
    places = found[["x", "y"]].to_numpy()
    nearest = ((places[40:, None] - places[None, :40]) ** 2).sum(axis=-1).argmin(axis=1)
    assert (found["label"].to_numpy()[nearest] == found["label"].to_numpy()[40:]).mean() > 0.9


def test_of_many_cells_some_are_drawn_and_the_patient_is_kept_whole(write_cells: Callable[..., CellSet]) -> None:
    training = write_cells(textures(30), "training.set")
    new = write_cells(textures(30), "new.set", patient=[*["P1"] * 12, *["P2"] * 18])
    encoder = random_encoder("resnet18", training, size=32, seed=0)
    found = lay_map(encoder, training, new, patient="P1", method="tsne", most=15, device="cpu")
    drawn = found[found["set"] == "new"]
    assert (len(found) - len(drawn), len(drawn)) == (15, 15)
    assert (drawn["patient"] == "P1").sum() == 12


def test_too_few_cells_are_named(cells: CellSet) -> None:
    with pytest.raises(InputError, match="5 cells are too few for a map; give at least 10"):
        lay_map(random_encoder("resnet18", cells, size=32), cells, device="cpu")
