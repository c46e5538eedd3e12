from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.measures import MEASURES, measure, measures_of
from leukoscope.cells.pack import pack
from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.simulate import simulate
from leukoscope.cells.spoiling.camera import Camera
from leukoscope.cells.spoiling.kinds import spoil_cell

# What each kind of spoiling moves most, and which way.
MOVED = {
    "empty": ("foreground", -1),
    "saturation": ("white", 1),
    "defocus": ("sharpness", -1),
    "cut-off": ("aside", 1),
    "doublet": ("second", 1),
    "noise": ("noise", 1),
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    return simulate(tmp_path_factory.mktemp("measured") / "cells.set", cells=48, size=64, seed=3)


def table_of(pixels: np.ndarray, white: float = 255.0) -> pd.DataFrame:
    return pd.DataFrame(measures_of(pixels, white), columns=list(MEASURES))


def discs(*, radius: float = 9.0, at: tuple[float, float] = (24.0, 24.0), also: tuple[float, float] | None = None):
    """A disc at 12 bits on a noisy ground, ``(1, 1, 48, 48)`` float, and perhaps another one."""
    y, x = np.mgrid[:48, :48]
    inside = np.zeros((48, 48), bool)
    for middle in filter(None, (at, also)):
        inside |= np.hypot(y - middle[0], x - middle[1]) < radius
    return (1500 + 600 * inside + 12 * np.random.default_rng(0).standard_normal((48, 48)))[None, None]


def test_a_row_a_cell_in_order_whatever_the_threads_and_neighbours(simulated: CellSet) -> None:
    table = measure(simulated, jobs=1)
    assert list(table.columns) == list(MEASURES)
    assert list(table.index) == list(simulated.ids)
    pd.testing.assert_frame_equal(measure(simulated, jobs=3), table)
    some = simulated.select(np.array([7, 3]))
    pd.testing.assert_frame_equal(measure(some, jobs=1), table.iloc[[7, 3]])
    assert len(measure(simulated.select(np.array([], int)))) == 0


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 4), st.integers(24, 70), st.integers(24, 70), st.sampled_from(["flat", "noise", "frame", "step"]),
    st.integers(0, 65535),
)  # fmt: skip
def test_every_image_has_finite_measures(channels: int, height: int, width: int, kind: str, level: int) -> None:
    rng = np.random.default_rng(level)
    pixels = np.full((2, channels, height, width), level, np.uint16)
    if kind == "noise":
        pixels = rng.integers(0, 65536, pixels.shape, dtype=np.uint16)
    elif kind == "frame":
        pixels[1, :, 6:-6, 6:-6] = rng.integers(0, 65536)
    elif kind == "step":
        pixels[0, 0, :, : width // 3] = 0
    found = measures_of(pixels, 65535.0)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("height", "width"), [(24, 24), (90, 60), (130, 200), (400, 400)])
def test_any_size_from_24_to_400_pixels(height: int, width: int) -> None:
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(y - height / 2, x - width / 2) < min(height, width) / 4
    pixels = 120 + 60 * inside + 3 * np.random.default_rng(0).standard_normal((2, 1, height, width))
    row = table_of(pixels.astype(np.uint8)).iloc[0]
    assert row["foreground"] > 10
    # The mask has a margin, of a pixel or two after averaging.
    radius = min(height, width) / 4 + 2.5 * max(1, min(height, width) // 64)
    assert inside.mean() < row["area"] < np.pi * radius**2 / (height * width)
    assert row["cut"] == 0
    assert row["aside"] < 0.1


@pytest.mark.parametrize("axes", [(2,), (3,), (2, 3)])
def test_a_mirrored_image_measures_the_same(simulated: CellSet, axes: tuple[int, ...]) -> None:
    pixels = simulated.read(slice(0, 24))
    mirrored, before = (table_of(each).to_numpy() for each in (np.flip(pixels, axes), pixels))
    # Rounding tips a pixel at a threshold over now and then.
    assert np.isclose(mirrored, before, rtol=2e-3, atol=2e-3).mean() > 0.99
    np.testing.assert_allclose(mirrored, before, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("factor", [16, 257])
def test_the_same_picture_in_more_bits_measures_the_same(factor: int) -> None:
    pixels = np.rint(discs() / 16).clip(0, 255).astype(np.uint16)
    pixels[0, 0, 23:26, 23:26] = 255
    pixels = np.concatenate([pixels, np.rint(discs(at=(10.0, 20.0)) / 10).clip(0, 255).astype(np.uint16)])
    np.testing.assert_allclose(table_of(pixels * factor, 255.0 * factor), table_of(pixels), rtol=1e-3, atol=1e-3)


def test_a_brighter_lamp_changes_no_shape(simulated: CellSet) -> None:
    pixels = simulated.read(slice(0, 16)).astype(np.uint16) * 16
    before, after = (table_of(each, 65535.0) for each in (pixels, pixels * 2))
    for name in ("foreground", "cut", "aside", "second", "area", "sharpness"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-3, atol=1e-3)


def test_shapes_are_what_was_drawn() -> None:
    whole, half, pair = (table_of(discs(**how)).iloc[0] for how in ({}, {"at": (1, 24)}, {"also": (24.0, 41.0)}))
    assert (whole["cut"], whole["beside"]) == (0, 0)
    assert np.pi * 9**2 / 48**2 < whole["area"] < np.pi * 11.5**2 / 48**2
    # Of half a disc's outline the straight side is 2 of 2 + pi.
    assert half["cut"] == pytest.approx(2 / (2 + np.pi), abs=0.1)
    assert half["aside"] > 0.6
    assert whole["second"] < 0.2 < 0.8 < pair["second"]
    apart = table_of(discs(radius=7, at=(24.0, 16.0), also=(24.0, 38.0))).iloc[0]
    assert (apart["second"], apart["beside"]) == (pytest.approx(0.1, abs=0.1), pytest.approx(1, abs=0.2))


def test_a_white_ground_is_not_a_saturated_cell() -> None:
    cell = np.where(discs(radius=12.0) > 1800, 120, 255).astype(np.uint8)
    row = table_of(cell).iloc[0]
    assert row["white"] > 0.5
    assert row["saturated"] < 0.1
    glowing = np.where(discs(radius=12.0) > 1800, 255, 120).astype(np.uint8)
    assert table_of(glowing).iloc[0]["saturated"] > 0.75


@pytest.mark.parametrize("kind", MOVED)
def test_each_kind_of_spoiling_moves_its_measure(simulated: CellSet, kind: str) -> None:
    name, direction = MOVED[kind]
    pixels, camera = simulated.read(slice(None)), Camera.of(simulated.info)
    spoiled = np.stack(
        [
            spoil_cell(cell, kind, 1.0, camera, np.random.default_rng(i), second=pixels[i - 1])
            for i, cell in enumerate(pixels)
        ]
    )
    change = direction * (table_of(spoiled)[name] - table_of(pixels)[name])
    assert (change > 0).mean() > 0.85


@pytest.mark.parametrize("kind", ["empty", "saturation", "defocus", "cut-off"])
def test_so_it_does_on_real_cells(real_cells: Path, tmp_path: Path, kind: str) -> None:
    pack(real_cells / "pbc" / "erythroblast", tmp_path / "c.set", settings=PackSettings(centre=92, size=64), jobs=1)
    cells = CellSet.open(tmp_path / "c.set").select(np.arange(40))
    name, direction = MOVED[kind]
    pixels, camera = cells.read(slice(None)), Camera.of(cells.info)
    spoiled = np.stack([spoil_cell(cell, kind, 1.0, camera, np.random.default_rng(i)) for i, cell in enumerate(pixels)])
    change = direction * (table_of(spoiled)[name] - table_of(pixels)[name])
    assert (change > 0).mean() > 0.85
