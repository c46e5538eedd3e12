from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from leukoscope.cells.spoiling.outline import outline


@pytest.mark.parametrize("radius", [6.0, 14.0, 26.0])
def test_a_cell_is_found_with_a_small_margin(radius: float, disc_cell: Callable[..., np.ndarray]) -> None:
    found = outline(disc_cell(radius))
    away = np.hypot(*(np.mgrid[:96, :96] - 47.5))
    assert found[away < radius].all()
    assert not found[away > radius + 12].any()


def test_the_cell_in_the_middle_is_taken_and_not_the_larger_one_beside_it(
    disc_cell: Callable[..., np.ndarray],
) -> None:
    image = disc_cell(10.0)
    image[:, 5:30, 5:30] = np.array([1000.0, 900.0])[:, None, None]
    found = outline(image)
    assert found[48, 48]
    assert not found[5:30, 5:30].any()


def test_where_nothing_stands_out_it_is_a_disc_of_half_the_field() -> None:
    found = outline(np.random.default_rng(0).normal(500, 5, (1, 60, 80)))
    assert found[30, 40]
    assert not found[0].any()
    assert found.mean() == pytest.approx(np.pi / 16, abs=0.1)


def test_the_nucleus_of_a_stained_cell_among_red_cells_is_inside(real_cells: Path) -> None:
    for kind in ("basophil", "eosinophil", "lymphocyte", "neutrophil"):
        for path in sorted((real_cells / "pbc" / kind).glob("*.jpg"))[:5]:
            image = np.asarray(Image.open(path)).transpose(2, 0, 1).astype(float)
            found = outline(image)
            red = ndimage.gaussian_filter(image[0], 2)
            middle = np.hypot(*(np.mgrid[:160, :160] - 79.5)) < 40
            nucleus = middle & (red < 110)
            assert found[nucleus].mean() > 0.95, path.name
            assert found.mean() < 0.6, path.name
