import math

import kornia
import pytest
import skimage
import torch

from leukoscope.views import colour


@pytest.fixture
def images() -> torch.Tensor:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:, :, 0] = images[:, :1, 0]  # grey pixels, which have no hue
    images[:, :, 1, :4] = 0.0
    images[:, :, 1, 4:8] = 1.0
    images[:, 0, 2] = images[:, 1, 2]  # two channels share the top
    return images


def test_hue_equals_kornia(images: torch.Tensor) -> None:
    turn = torch.tensor([-0.5, -0.1, 0.0, 0.3])
    theirs = kornia.enhance.adjust_hue(images, turn * 2 * math.pi)
    torch.testing.assert_close(colour.turn_hue(images, turn), theirs, atol=1e-5, rtol=0)


def test_hue_equals_scikit_image(images: torch.Tensor) -> None:
    hsv = skimage.color.rgb2hsv(images[1].numpy(), channel_axis=0)
    hsv[0] = (hsv[0] + 0.2) % 1
    expected = torch.from_numpy(skimage.color.hsv2rgb(hsv, channel_axis=0))
    ours = colour.turn_hue(images[1:2], torch.tensor([0.2]))[0]
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0, check_dtype=False)


def test_no_turn_and_a_full_turn_change_nothing(images: torch.Tensor) -> None:
    for turn in (0.0, 1.0, -1.0):
        torch.testing.assert_close(colour.turn_hue(images, torch.full((4,), turn)), images, atol=2e-6, rtol=0)


def test_saturation_equals_kornia(images: torch.Tensor) -> None:
    factor = torch.tensor([0.0, 0.6, 1.0, 1.7])
    theirs = kornia.enhance.adjust_saturation_with_gray_subtraction(images, factor)
    torch.testing.assert_close(colour.saturate(images, factor), theirs, atol=1e-5, rtol=0)


def test_grey_equals_kornia(images: torch.Tensor) -> None:
    theirs = kornia.color.rgb_to_grayscale(images).expand_as(images)
    torch.testing.assert_close(colour.grey(images), theirs, atol=1e-6, rtol=0)
