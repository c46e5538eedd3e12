from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leukoscope.report.cellgrid import Layer, ShownCells, draw_grid


def drawn(cellset, layers, tmp_path: Path, rows=(0, 1, 2)):
    rows = np.array(rows)
    shown = ShownCells(cellset, rows, [f"{number} a_rather_long_name of a class" for number in rows])
    picture = draw_grid(shown, layers, tmp_path, "grid", alt="Words.", caption="More words.")
    return picture, np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"), dtype=int)


def test_a_grid_is_printable_and_its_page_has_a_smaller_copy(cellset, tmp_path: Path):
    layers = [Layer("heat", "heat", np.zeros((3, 40, 40)), ["0.1", "0.2", "0.3"])]
    picture, pixels = drawn(cellset, layers, tmp_path)
    assert (tmp_path / "grid.pdf").read_bytes().startswith(b"%PDF")
    dpi = Image.open(tmp_path / "grid.png").info["dpi"]
    assert dpi[0] == pytest.approx(300, abs=0.1)
    assert picture.width / 96 == pytest.approx(1.25 * pixels.shape[1] / 300, abs=0.02)
    assert pixels.shape[1] <= 7.3 * 300  # the text of an A4 page
    assert len(picture.src) < 2 * (tmp_path / "grid.png").stat().st_size


def test_heat_has_colour_where_it_is_and_none_where_it_is_not(make_cells, tmp_path: Path):
    cells = make_cells(channels=3, n=10)
    cold, _ = np.zeros((1, 40, 40), np.float32), None
    warm = cold.copy()
    warm[0, :20] = 1

    def coloured(heat: np.ndarray) -> float:
        # A stained cell stands above in its colours; below it is grey, so that colour is heat.
        _, pixels = drawn(cells, [Layer("heat", "heat", heat)], tmp_path, rows=[4])
        lower = pixels[pixels.shape[0] // 2 :]
        return float((np.ptp(lower, axis=2) > 60).mean())

    assert coloured(cold) == 0
    assert coloured(warm) > 0.02


def test_even_shares_stand_at_a_third_of_the_scale_and_one_bright_patch_at_its_end(cellset, tmp_path: Path):
    even = np.full((1, 4, 4), 1 / 17)
    bright = np.full((1, 4, 4), 0.001)
    bright[0, 1, 1] = 0.9
    yellow, teal = np.array([253, 231, 37]), np.array([49, 104, 142])  # viridis at its end and at a third
    for shares, colour, other in ((even, teal, yellow), (bright, yellow, teal)):
        _, pixels = drawn(cellset, [Layer("shares", "shares", shares)], tmp_path, rows=[0])
        assert (np.abs(pixels - colour).max(axis=2) < 6).mean() > 0.003
        assert (np.abs(pixels - other).max(axis=2) < 6).mean() < 0.0005


def test_many_cells_are_dealt_to_bands_alike(cellset, tmp_path: Path):
    colours = np.zeros((9, 2, 2, 3))
    colours[..., 0] = 1
    _, pixels = drawn(cellset, [Layer("c", "colours", colours)], tmp_path, rows=range(9))
    red = (pixels == [255, 0, 0]).all(axis=2)
    starts = np.flatnonzero(np.diff(np.concatenate([[0], red.any(axis=1).astype(int)])) == 1)
    assert len(starts) == 2
    across = [np.count_nonzero(np.diff(red[start + 20].astype(int)) == 1) for start in starts]
    assert across == [5, 4]


def test_a_scale_bar_is_as_long_as_it_says(make_cells, tmp_path: Path):
    cells = make_cells(channels=1, n=10)  # 40 pixels of 0.5 um: 20 um
    white = Layer("c", "colours", np.ones((1, 2, 2, 3)))
    _, pixels = drawn(cells, [white], tmp_path, rows=[0])
    ink = np.abs(pixels - [29, 39, 51]).max(axis=2) < 3
    longest = max(len(run) for row in ink for run in "".join("#" if dark else " " for dark in row).split())
    side = 300 * 1.1
    assert longest == pytest.approx(side * 5 / 20, rel=0.03)
