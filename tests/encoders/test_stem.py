from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import create_backbone
from leukoscope.encoders.stem import FoldedStem, adapt_stem, with_ones_channel

GREY = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def rgb(tmp_path: Path):
    """Build a timm RGB network and leave its weights in a file."""

    def make(name: str, **options: object) -> tuple[nn.Module, Path]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = timm.create_model(name, num_classes=0, **options).eval()
        save_file(model.state_dict(), tmp_path / "rgb.safetensors")
        return model, tmp_path / "rgb.safetensors"

    return make


def normalised(model: nn.Module, images: Tensor) -> Tensor:
    mean, std = (torch.tensor(model.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    return (images - mean) / std


# Stems that pad (ResNet), pad as TensorFlow does (EfficientNet-Lite), and do not pad (ConvNeXt, ViT).
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {}),
        ("tf_efficientnet_lite0", {}),
        ("convnext_atto", {}),
        ("vit_tiny_patch16_224", {"img_size": 64}),
    ],
)
@pytest.mark.parametrize("mean_std", [None, (0.21, 0.11)])
def test_grey_equals_replication(rgb, name: str, options: dict, mean_std: tuple[float, float] | None) -> None:
    model, path = rgb(name, **options)
    mean, std = mean_std or (sum(model.pretrained_cfg["mean"]) / 3, sum(model.pretrained_cfg["std"]) / 3)
    given = {} if mean_std is None else {"mean": (mean,), "std": (std,)}
    grey = create_backbone(name, channels=1, weights=path, seed=0, size=64, **given).eval()
    with torch.inference_mode():
        expected = model(normalised(model, GREY.expand(-1, 3, -1, -1)))
        found = grey((GREY - mean) / std)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_equal_mean_and_std_leave_a_plain_convolution_of_summed_weights(rgb) -> None:
    model, path = rgb("tf_efficientnet_lite0")
    grey = create_backbone("tf_efficientnet_lite0", channels=1, weights=path, seed=0, size=64)
    assert type(grey.conv_stem) is type(model.conv_stem)
    assert torch.equal(grey.conv_stem.weight, model.conv_stem.weight.sum(1, keepdim=True))


def test_rgb_takes_another_normalisation_exactly(rgb) -> None:
    model, path = rgb("resnet18")
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    mean, std = (0.7, 0.6, 0.5), (0.2, 0.25, 0.3)
    other = create_backbone("resnet18", channels=3, weights=path, seed=0, size=48, mean=mean, std=std).eval()
    ours = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.inference_mode():
        torch.testing.assert_close(other(ours), model(normalised(model, images)), rtol=1e-5, atol=1e-5)


def test_folding_into_a_bias_alone_would_be_wrong_at_the_border(rgb) -> None:
    model, path = rgb("resnet18")
    stem = create_backbone("resnet18", channels=1, weights=path, seed=0, mean=(0.5,), std=(0.5,)).conv1
    assert isinstance(stem, FoldedStem)
    x = (GREY - 0.5) / 0.5
    with torch.inference_mode():
        expected = model.conv1(normalised(model, GREY.expand(-1, 3, -1, -1)))
        constant = stem.conv(x) + stem.offset.weight.sum((1, 2, 3))[:, None, None]
    torch.testing.assert_close(stem(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(constant[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=1e-5, atol=1e-5)
    assert (constant - expected).abs().max() > 0.01


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_other_channel_counts_take_colours_in_turn_and_keep_the_magnitude(rgb, channels: int) -> None:
    model, path = rgb("resnet18")
    many = create_backbone("resnet18", channels=channels, weights=path, seed=0).conv1.weight
    assert many.shape == (64, channels, 7, 7)
    for channel in range(channels):
        torch.testing.assert_close(many[:, channel], model.conv1.weight[:, channel % 3] * 3 / channels)


def test_a_stem_without_a_plain_convolution_is_refused() -> None:
    backbone = timm.create_model("resnetv2_50x1_bit", num_classes=0)
    with pytest.raises(InputError, match="resnetv2_50x1_bit: its stem is no plain convolution of RGB"):
        adapt_stem(backbone, 1)


def test_a_channel_of_ones_does_what_is_folded_into_a_stem(rgb) -> None:
    _, path = rgb("resnet18")
    folded = create_backbone("resnet18", channels=1, weights=path, seed=0, mean=(0.2,), std=(0.1,)).eval()
    tensors = with_ones_channel(folded.state_dict(), "conv1", biased=False)
    plain = create_backbone("resnet18", channels=2, seed=1).eval()
    plain.load_state_dict(tensors)
    with torch.inference_mode():
        torch.testing.assert_close(
            plain(torch.cat([GREY, torch.ones_like(GREY)], 1)), folded(GREY), rtol=1e-4, atol=1e-4
        )


def test_a_channel_of_ones_does_what_a_bias_does() -> None:
    conv = nn.Conv2d(1, 4, 3)
    state = {f"stem.{name}": value for name, value in conv.state_dict().items()}
    tensors = with_ones_channel(state, "stem", biased=False)
    assert tensors is not None
    assert set(tensors) == {"stem.weight"}
    found = nn.functional.conv2d(torch.cat([GREY, torch.ones_like(GREY)], 1), tensors["stem.weight"])
    torch.testing.assert_close(found, conv(GREY))
    assert with_ones_channel(state, "stem", biased=True) is None
