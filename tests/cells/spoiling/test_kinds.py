import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leukoscope.cells.spoiling.camera import Camera
from leukoscope.cells.spoiling.kinds import KINDS, spoil_cell

DEPTHS = st.sampled_from([(np.uint8, 8), (np.uint16, 10), (np.uint16, 12), (np.uint16, 16)])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    DEPTHS,
    st.integers(1, 4),
    st.tuples(st.integers(8, 30), st.integers(8, 30)),
    st.floats(1e-6, 1),
    st.integers(0, 2**32),
)
def test_depth_shape_and_range_stay_whatever_is_in_the_image(kind, depth, channels, shape, grade, seed) -> None:
    dtype, bits = depth
    rng = np.random.default_rng(seed)
    # From nothing but one value to noise over the whole range.
    top = int(rng.integers(1, 2**bits, endpoint=True))
    one, two = rng.integers(rng.integers(top), top, (2, channels, *shape)).astype(dtype)
    camera = Camera(2.0**bits - 1, rng.uniform(1, 2**bits, channels), None)
    before = one.copy()
    spoiled = spoil_cell(one, kind, grade, camera, rng, second=two)
    assert spoiled.dtype == dtype
    assert spoiled.shape == one.shape
    assert spoiled.max() <= 2**bits - 1
    assert (one == before).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_grade_says_how_much_changes(kind, disc_cell, camera) -> None:
    one, two = disc_cell().astype(np.uint16), disc_cell(seed=1).astype(np.uint16)

    def change(grade: float) -> float:
        spoiled = spoil_cell(one, kind, grade, camera, np.random.default_rng(5), second=two)
        return float(np.abs(spoiled.astype(float) - one).mean())

    assert change(0.0) == 0
    assert change(1.0) > 10
    if kind in ("defocus", "debris", "noise", "uneven-light", "doublet"):
        assert change(0.02) < 0.2 * change(1.0)
