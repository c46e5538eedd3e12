import kornia
import numpy as np
import pytest
import skimage
import torch
import torchvision.transforms.functional as torchvision_functional

from leukoscope.views import grey


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(5, 3, 24, 31, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("width", [3, 5, 7])
def test_erosion_and_dilation_equal_scikit_image_and_kornia(images: torch.Tensor, width: int) -> None:
    window = np.ones((width, width))
    kernel = torch.ones(width, width)
    for ours, scikit, theirs in (
        (grey.erode(images, width), skimage.morphology.erosion, kornia.morphology.erosion),
        (grey.dilate(images, width), skimage.morphology.dilation, kornia.morphology.dilation),
    ):
        expected = np.stack([[scikit(plane, window) for plane in image] for image in images.numpy()])
        np.testing.assert_array_equal(ours, expected)
        torch.testing.assert_close(ours, theirs(images, kernel), atol=0, rtol=0)


def test_a_window_wider_than_the_image_finds_the_extreme(images: torch.Tensor) -> None:
    small = images[:, :, :4, :5]
    assert torch.equal(grey.erode(small, 31), small.amin(dim=(2, 3), keepdim=True).expand_as(small))


def test_blur_equals_scikit_image_for_every_cell_s_own_sigma(images: torch.Tensor) -> None:
    sigma = torch.tensor([0.1, 0.4, 1.0, 2.3, 5.0])
    expected = [
        skimage.filters.gaussian(image, sigma=float(s), mode="reflect", truncate=3, channel_axis=0)
        for image, s in zip(images.numpy(), sigma, strict=True)
    ]
    np.testing.assert_allclose(grey.blur(images, sigma), np.stack(expected), atol=2e-6)


def test_blur_equals_kornia_away_from_the_edges(images: torch.Tensor) -> None:
    # kornia reflects without the edge pixel; inside, the edges do not matter.
    sigma = torch.full((5,), 1.0)
    theirs = kornia.filters.gaussian_blur2d(images, (7, 7), torch.ones(5, 2))
    torch.testing.assert_close(grey.blur(images, sigma)[..., 3:-3, 3:-3], theirs[..., 3:-3, 3:-3], atol=1e-6, rtol=0)


def test_blur_keeps_the_mean_and_a_constant(images: torch.Tensor) -> None:
    blurred = grey.blur(images, torch.linspace(0.2, 6, 5))
    torch.testing.assert_close(blurred.mean(dim=(2, 3)), images.mean(dim=(2, 3)))
    torch.testing.assert_close(grey.blur(torch.full((1, 1, 9, 9), 0.3), torch.tensor([50.0])).mean(), torch.tensor(0.3))


def test_contrast_equals_kornia_channel_by_channel(images: torch.Tensor) -> None:
    factor = torch.tensor([0.0, 0.5, 1.0, 1.5, 3.0])
    planes = images.reshape(-1, 1, 24, 31)
    theirs = kornia.enhance.adjust_contrast_with_mean_subtraction(planes, factor.repeat_interleave(3))
    torch.testing.assert_close(grey.tone(images, contrast=factor), theirs.reshape(images.shape))


def test_brightness_and_gain_equal_kornia(images: torch.Tensor) -> None:
    factor = torch.tensor([0.0, 0.5, 1.0, 1.5, 3.0])
    theirs = kornia.enhance.adjust_brightness_accumulative(images, factor)
    torch.testing.assert_close(grey.tone(images, brightness=factor), theirs)
    torch.testing.assert_close(grey.tone(images, gain=factor[:, None].expand(5, 3)), theirs)


def test_tone_is_contrast_then_brightness_then_gain(images: torch.Tensor) -> None:
    c, b = torch.linspace(0.8, 1.2, 5), torch.linspace(0.7, 0.9, 5)
    g = torch.linspace(0.8, 1.1, 15).reshape(5, 3)
    mean = images.mean(dim=(2, 3), keepdim=True)
    step = ((images - mean) * c[:, None, None, None] + mean) * b[:, None, None, None] * g[:, :, None, None]
    torch.testing.assert_close(grey.tone(images, contrast=c, brightness=b, gain=g), step.clamp(0, 1))


def test_solarise_equals_torchvision_at_any_threshold(images: torch.Tensor) -> None:
    for threshold in (0.0, 0.3, 0.5, 1.0):
        torch.testing.assert_close(grey.solarise(images, threshold), torchvision_functional.solarize(images, threshold))


def test_gamma_equals_kornia_and_scikit_image(images: torch.Tensor) -> None:
    exponent = torch.tensor([0.5, 0.8, 1.0, 1.4, 2.0])
    ours = grey.gamma(images, exponent)
    torch.testing.assert_close(ours, kornia.enhance.adjust_gamma(images, exponent))
    np.testing.assert_allclose(ours[3], skimage.exposure.adjust_gamma(images[3].numpy(), 1.4), rtol=1e-5)
