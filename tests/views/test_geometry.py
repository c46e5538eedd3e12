import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from leukoscope.views.geometry import placements
from leukoscope.views.policy import View
from leukoscope.views.random import Draws

CELLS = 4000


def drawn(**moves: object) -> torch.Tensor:
    view = View.parse(moves, where="test")
    return placements(view, Draws(0, 0, torch.arange(CELLS), torch.zeros(CELLS, dtype=torch.int64)))


def test_no_moves_show_the_whole_image() -> None:
    assert torch.equal(drawn(), torch.eye(2, 3).expand(CELLS, 2, 3))


def test_rotation_turns_by_every_angle_and_keeps_size_and_centre() -> None:
    maps = drawn(rotation={"degrees": 90})
    angles = torch.atan2(maps[:, 0, 1], maps[:, 0, 0]) * 180 / math.pi
    assert stats.kstest(angles.numpy(), "uniform", (-90, 180)).pvalue > 0.001
    torch.testing.assert_close(torch.linalg.det(maps[:, :, :2]), torch.ones(CELLS))
    assert not maps[:, :, 2].any()


@pytest.mark.parametrize(("p", "moved"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_a_move_happens_to_its_share_of_the_cells(p: float, moved: float) -> None:
    still = torch.eye(2, 3)
    for move in ({"rotation": {"p": p}}, {"shift": {"p": p, "share": 0.1}}, {"zoom": {"p": p, "field": [0.5, 0.9]}}):
        share = (drawn(**move) != still).flatten(1).any(dim=1).float().mean()
        assert abs(float(share) - moved) < 0.03, move


def test_zoom_shows_a_field_and_shift_moves_it() -> None:
    maps = drawn(zoom={"field": [0.5, 1.5]}, shift={"share": 0.2})
    assert stats.kstest(maps[:, 0, 0].numpy(), "uniform", (0.5, 1)).pvalue > 0.001
    # The image is two units wide, so a fifth of its side is 0.4.
    assert stats.kstest(maps[:, 1, 2].numpy(), "uniform", (-0.4, 0.8)).pvalue > 0.001
    assert abs(stats.spearmanr(maps[:, 0, 2], maps[:, 1, 2]).statistic) < 0.06


def test_quarter_turns_flips_and_transposition_reach_the_eight_symmetries_alike() -> None:
    maps = drawn(flip={"horizontal": 0.5, "vertical": 0.5, "transpose": 0.5, "quarter_turn": 1.0})
    symmetries, counts = maps[:, :, :2].reshape(-1, 4).unique(dim=0, return_counts=True)
    assert len(symmetries) == 8
    assert set(symmetries.flatten().tolist()) == {-1.0, 0.0, 1.0}
    assert stats.chisquare(counts.numpy()).pvalue > 0.001


@pytest.mark.parametrize(
    ("flip", "expected"),
    [
        ("horizontal", lambda image: image.flip(3)),
        ("vertical", lambda image: image.flip(2)),
        ("transpose", lambda image: image.transpose(2, 3)),
    ],
)
def test_flips_mean_what_they_say(flip: str, expected: object) -> None:
    image = torch.arange(36.0).reshape(1, 1, 6, 6)
    grid = torch.nn.functional.affine_grid(drawn(flip={flip: 1.0})[:1], (1, 1, 6, 6), align_corners=False)
    shown = torch.nn.functional.grid_sample(image, grid, align_corners=False)
    torch.testing.assert_close(shown, expected(image))  # type: ignore[operator]


@given(low=st.floats(0.05, 0.9), aspect=st.floats(0.3, 1.0))
@settings(max_examples=20, deadline=None)
def test_a_crop_lies_inside_the_image(low: float, aspect: float) -> None:
    maps = drawn(crop={"area": [low, 1.0], "aspect": [aspect, 1 / aspect]})
    half, centre = maps[:, [0, 1], [0, 1]], maps[:, :, 2]
    assert ((centre.abs() + half) <= 1 + 1e-6).all()


def test_a_crop_has_its_area_and_aspect() -> None:
    maps = drawn(crop={"area": [0.1, 0.3], "aspect": [0.5, 2.0]})
    width, height = maps[:, 0, 0].numpy(), maps[:, 1, 1].numpy()
    assert stats.kstest(width * height, "uniform", (0.1, 0.2)).pvalue > 0.001
    assert stats.kstest(np.log2(width / height), "uniform", (-1, 2)).pvalue > 0.001
