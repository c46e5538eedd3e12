import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from leukoscope.cells.fit import DoesNotFit, border_level, centre, fit, resize

sides = st.integers(1, 24)
images = st.tuples(st.sampled_from([np.uint8, np.uint16]), st.integers(1, 3), sides, sides).flatmap(
    lambda s: arrays(s[0], s[1:], elements=st.integers(0, np.iinfo(s[0]).max))
)


@given(images, st.integers(1, 30), st.sampled_from(["pad", "crop", "resize"]))
def test_every_rule_gives_the_size_and_keeps_the_depth_or_refuses(pixels, size, rule):
    _, height, width = pixels.shape
    if (rule == "pad" and max(height, width) > size) or (rule == "crop" and min(height, width) < size):
        with pytest.raises(DoesNotFit, match="--fit"):
            fit(pixels, size, rule)
        return
    fitted = fit(pixels, size, rule)
    assert fitted.shape == (len(pixels), size, size)
    assert fitted.dtype == pixels.dtype


@given(images, st.integers(24, 40))
def test_padding_keeps_every_pixel_and_adds_background_only(pixels, size):
    padded = fit(pixels, size, "pad")
    _, height, width = pixels.shape
    top, left = (size - height) // 2, (size - width) // 2
    np.testing.assert_array_equal(padded[:, top : top + height, left : left + width], pixels)
    outside = np.ones((size, size), bool)
    outside[top : top + height, left : left + width] = False
    assert (padded[:, outside] == border_level(pixels)[:, None]).all()


@given(images, st.integers(1, 24))
def test_centre_is_a_window_with_equal_margins(pixels, side):
    middle = centre(pixels, side)
    for axis in (1, 2):
        length = pixels.shape[axis]
        assert middle.shape[axis] == min(length, side)
    rows = (pixels.shape[1] - middle.shape[1]) // 2
    columns = (pixels.shape[2] - middle.shape[2]) // 2
    np.testing.assert_array_equal(middle, pixels[:, rows : rows + middle.shape[1], columns : columns + middle.shape[2]])


@given(images, st.integers(1, 24))
def test_resizing_makes_no_grey_level_that_was_not_spanned(pixels, size):
    fitted = fit(pixels, size, "resize")
    assert fitted.min() >= pixels.min()
    assert fitted.max() <= pixels.max()


def test_resizing_keeps_the_aspect():
    pixels = np.full((1, 20, 40), 200, np.uint8)
    pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1] = 10, 10, 10, 10
    fitted = fit(pixels, 20, "resize")
    bright = fitted[0] > 100
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    assert len(columns) == pytest.approx(2 * len(rows), abs=2)


def test_resizing_does_not_alias():
    stripes = np.zeros((1, 64, 64), np.uint16)
    stripes[:, :, ::2] = 60_000
    small = resize(stripes, 16, 16)
    # Every fourth column of the stripes alone would be all dark or all bright.
    np.testing.assert_allclose(small[:, :, 1:-1], 30_000, atol=1)


def test_16_bit_resizing_agrees_with_8_bit():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 50, 50)).astype(np.uint8)
    deep = resize(pixels.astype(np.uint16) * 257, 21, 21)
    np.testing.assert_allclose(deep / 257, resize(pixels, 21, 21), atol=1.0)


def test_8_bit_resizing_is_that_of_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 50, 50)).astype(np.uint8)
    expected = np.asarray(Image.fromarray(pixels[0]).resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize(pixels, 20, 20)[0], expected)
