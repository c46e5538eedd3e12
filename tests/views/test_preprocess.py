import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from leukoscope.cells.intensity import Intensity
from leukoscope.views.preprocess import Preprocess


def cells(count: int = 4, channels: int = 3, side: int = 80) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 20, 20, generator=generator)
    return (torch.nn.functional.interpolate(coarse, side, mode="bilinear") * 255).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_equals_the_pil_pipeline_of_torchvision(channels: int) -> None:
    pixels = cells(channels=channels)
    theirs = v2.Compose(
        [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * channels, [0.25] * channels)]
    )
    images = [
        Image.fromarray(c.permute(1, 2, 0).squeeze(-1).numpy()).resize((48, 48), Image.Resampling.BILINEAR)
        for c in pixels
    ]
    ours = Preprocess(48, Intensity.of_bit_depth(8, channels), [0.5] * channels, [0.25] * channels)(pixels)
    one_level = 1 / 255 / 0.25
    assert (ours - torch.stack([theirs(image) for image in images])).abs().max() <= one_level * 1.001


def test_sixteen_bits_and_a_percentile_rule() -> None:
    rule = Intensity(rule="percentile", low=(100.0, 0.0), high=(3000.0, 4095.0))
    pixels = cells(channels=2).to(torch.int32).mul(16).to(torch.uint16)
    mean, std = [0.4, 0.2], [0.1, 0.3]
    ours = Preprocess(80, rule, mean, std)(pixels)
    expected = (rule.scale(pixels.numpy()) - np.reshape(mean, (2, 1, 1))) / np.reshape(std, (2, 1, 1))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_normalise_takes_views_to_what_the_encoder_sees() -> None:
    preprocess = Preprocess(80, Intensity.of_bit_depth(8, 3), [0.5] * 3, [0.5] * 3)
    pixels = cells()
    torch.testing.assert_close(preprocess.normalise(pixels / 255), preprocess(pixels))


def test_it_is_a_module_without_weights_that_exports_for_any_batch() -> None:
    preprocess = Preprocess(48, Intensity.of_bit_depth(8, 3), [0.5] * 3, [0.5] * 3)
    assert not preprocess.state_dict()
    exported = torch.export.export(preprocess, (cells(4),), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    pixels = cells(7)
    # Exported, it computes in float: no rounding to whole grey levels, of which two make up 1 / 63.75.
    torch.testing.assert_close(exported(pixels), preprocess(pixels), atol=1 / 100, rtol=0)


def test_means_and_stds_must_fit_the_channels() -> None:
    with pytest.raises(ValueError, match="2 channels need as many means and stds, not 3 and 2"):
        Preprocess(48, Intensity.of_bit_depth(8, 2), [0.5] * 3, [0.5] * 2)
