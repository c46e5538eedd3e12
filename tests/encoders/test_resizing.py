import pytest
import torch
from torch import Tensor

from leukoscope.encoders.resizing import resize_exactly
from leukoscope.views.resample import resize


def random_levels(top: int, height: int, width: int) -> Tensor:
    return torch.randint(0, top + 1, (2, 3, height, width), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("side", [16, 40, 57, 64, 100])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 91)])
def test_8_bit_pixels_are_resized_to_the_same_grey_level(height: int, width: int, side: int) -> None:
    pixels = random_levels(255, height, width).to(torch.uint8)
    assert torch.equal(resize_exactly(pixels.float(), side, eight_bit=True), resize(pixels, side))


@pytest.mark.parametrize("side", [16, 40, 57, 64, 100])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 91)])
def test_deeper_pixels_are_resized_to_a_twentieth_of_a_grey_level(height: int, width: int, side: int) -> None:
    pixels = random_levels(4095, height, width).to(torch.uint16)
    found = resize_exactly(pixels.float(), side, eight_bit=False)
    torch.testing.assert_close(found, resize(pixels, side), rtol=0, atol=0.05)
