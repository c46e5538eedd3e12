import math

import numpy as np
import pytest
import skimage
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import v2

from leukoscope.cells.intensity import Intensity
from leukoscope.views.resample import resample, resize, scale

EIGHT_BITS = {channels: Intensity.of_bit_depth(8, channels) for channels in (1, 2, 3)}


def textured(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    """uint8 images with detail at every scale, as cells have: cuts from a photograph."""
    photograph = torch.from_numpy(skimage.data.camera()[120:, 130:].copy())
    cuts = [photograph[7 * i : 7 * i + height, 11 * i : 11 * i + width] for i in range(count * channels)]
    return torch.stack(cuts).reshape(count, channels, height, width)


def placement(field: float = 1.0, degrees: float = 0.0, x: float = 0.0, y: float = 0.0) -> torch.Tensor:
    """A view of ``field`` of the image, turned against the clock, with its centre at (x, y)."""
    c, s = math.cos(math.radians(degrees)) * field, math.sin(math.radians(degrees)) * field
    return torch.tensor([[[c, -s, x], [s, c, y]]])


def pil(images: torch.Tensor, side: int) -> np.ndarray:
    """The same images resized by PIL, in the type that they have."""
    planes = [Image.fromarray(plane.numpy()) for plane in images.flatten(0, 1)]
    resized = [np.asarray(plane.resize((side, side), Image.Resampling.BILINEAR), np.float64) for plane in planes]
    return np.stack(resized).reshape(*images.shape[:2], side, side)


@pytest.mark.parametrize(
    ("shape", "side"),
    [
        ((5, 1, 200, 200), 64),
        ((3, 3, 160, 160), 64),
        ((3, 3, 160, 160), 128),
        ((2, 2, 97, 61), 48),
        ((3, 1, 64, 64), 224),
    ],
)
def test_resize_equals_pil(shape: tuple[int, int, int, int], side: int) -> None:
    images = textured(*shape)
    off = np.abs(resize(images, side).numpy() - pil(images, side))
    assert off.max() <= 2, "8 bit: torch's integer weights are coarser than PIL's"
    assert (off > 1).mean() < 1e-3, "but hardly a pixel is off by more than one grey level"
    sixteen = images.to(torch.uint16).mul(257)
    difference = resize(sixteen, side).numpy() - pil(sixteen.to(torch.float32), side)
    assert np.abs(difference).max() <= 2, "16 bit, in float: 2 of 65,535 grey levels"


def test_resize_keeps_an_image_of_the_right_size_and_takes_an_empty_batch() -> None:
    images = textured(2, 3, 64, 64)
    assert torch.equal(resize(images, 64), images.float())
    assert resize(images[:0], 32).shape == (0, 3, 32, 32)


def test_a_view_of_the_whole_image_is_the_plain_resize() -> None:
    images = textured(3, 3, 160, 160)
    views = resample(images, torch.arange(3), placement().expand(3, 2, 3), 64, EIGHT_BITS[3])
    torch.testing.assert_close(views, scale(resize(images, 64), EIGHT_BITS[3]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_right_angles_are_exact(degrees: int) -> None:
    images = textured(1, 2, 200, 200)
    turned = resample(images, torch.tensor([0]), placement(degrees=degrees), 64, EIGHT_BITS[2])
    expected = torch.rot90(scale(resize(images, 64), EIGHT_BITS[2]), degrees // 90, (2, 3))
    torch.testing.assert_close(turned, expected, atol=1e-4, rtol=0)


def test_rotation_equals_scikit_image_where_the_scale_is_kept() -> None:
    images = textured(1, 1, 96, 96)
    ours = resample(images, torch.tensor([0]), placement(degrees=25), 96, EIGHT_BITS[1])[0, 0]
    expected = skimage.transform.rotate(images[0, 0].numpy(), 25, order=1, mode="symmetric")
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_a_shift_shows_the_image_reflected_at_its_edge() -> None:
    images = textured(1, 1, 64, 64)
    shifted = resample(images, torch.tensor([0]), placement(x=-0.25), 64, EIGHT_BITS[1])[0, 0]
    expected = np.pad(images[0, 0].numpy(), ((0, 0), (8, 0)), mode="symmetric")[:, :64] / 255
    np.testing.assert_allclose(shifted, expected, atol=1e-5)


def supersampled(images: torch.Tensor, at: torch.Tensor, side: int) -> torch.Tensor:
    """A view drawn at eight times its size and then shrunk with antialiasing: slow, and right."""
    grid = F.affine_grid(at, (1, images.shape[1], 8 * side, 8 * side), align_corners=False)
    large = F.grid_sample(images.float() / 255, grid, padding_mode="reflection", align_corners=False)
    return F.interpolate(large, (side, side), mode="bilinear", antialias=True, align_corners=False)


@pytest.mark.parametrize("field", [0.5, 0.6, 0.75, 0.9, 1.0, 1.05, 1.3, 2.5])
def test_turned_and_zoomed_views_are_antialiased(field: float) -> None:
    images = textured(1, 1, 200, 200)
    at = placement(field, degrees=34, x=0.06, y=-0.1)
    expected = supersampled(images, at, 64)
    grid = F.affine_grid(at, (1, 1, 64, 64), align_corners=False)
    aliased = F.grid_sample(images.float() / 255, grid, padding_mode="reflection", align_corners=False)
    ours = resample(images, torch.tensor([0]), at, 64, EIGHT_BITS[1])

    def error(views: torch.Tensor) -> float:
        return float((views - expected).square().mean().sqrt())

    assert error(ours) < 0.02
    assert error(ours) < 0.55 * error(aliased)
    assert float(ours.std() / expected.std()) > 0.97, "antialiasing must not become blur"


@pytest.mark.parametrize("window", [(30, 40, 100, 100), (10, 90, 64, 64), (0, 0, 180, 180), (20, 30, 120, 90)])
def test_a_crop_equals_torchvision_s(window: tuple[int, int, int, int]) -> None:
    images = textured(1, 1, 200, 200)
    left, upper, width, height = window
    expected = v2.functional.resized_crop(images / 255, upper, left, height, width, [64, 64], antialias=True)
    half = torch.tensor([width, height]) / 200
    centre = torch.tensor([left, upper]) / 100 + half - 1
    ours = resample(images, torch.tensor([0]), torch.cat([half.diag(), centre[:, None]], 1)[None], 64, EIGHT_BITS[1])
    # torchvision shrinks the window itself, we shrink the image and then draw: alike up to the filter.
    assert float((ours - expected).square().mean().sqrt()) < 0.02


def test_a_view_does_not_depend_on_what_is_drawn_beside_it() -> None:
    images = textured(4, 3, 160, 160)
    cells = torch.tensor([3, 0, 1, 0, 3, 2, 3, 0])
    fields = [0.5, 0.5, 1.0, 0.8, 0.5, 3.0, 0.5, 0.5]
    at = torch.cat([placement(field, degrees=20.0 * i) for i, field in enumerate(fields)])
    together = resample(images, cells, at, 64, EIGHT_BITS[3])
    for i in range(len(cells)):
        alone = resample(images, cells[i : i + 1], at[i : i + 1], 64, EIGHT_BITS[3])
        assert torch.equal(together[i : i + 1], alone)


def test_sixteen_bits_give_the_same_view_as_eight_within_rounding() -> None:
    images = textured(2, 2, 120, 120)
    at = torch.cat([placement(0.7, 40), placement(1.1, 130)])
    eight = resample(images, torch.arange(2), at, 48, EIGHT_BITS[2])
    wide = images.to(torch.int32).mul(257).to(torch.uint16)
    sixteen = resample(wide, torch.arange(2), at, 48, Intensity.of_bit_depth(16, 2))
    torch.testing.assert_close(eight, sixteen, atol=1.5 / 255, rtol=0)


def test_scale_follows_the_intensity_rule() -> None:
    rule = Intensity(rule="percentile", low=(10.0, 0.0), high=(200.0, 100.0))
    pixels = textured(2, 2, 32, 32)
    np.testing.assert_allclose(scale(pixels.float(), rule), rule.scale(pixels.numpy()), atol=1e-6)
