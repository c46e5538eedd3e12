import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import create_backbone
from leukoscope.encoders.readout import Readout

SIZE = 64


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def _read(readout: Readout, backbone: nn.Module, x: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return readout(backbone.eval(), x).numpy()


def _backbone(name: str) -> nn.Module:
    return create_backbone(name, channels=1, seed=0, size=SIZE)


def test_flips_make_features_blind_to_quarter_turns(images: Tensor) -> None:
    backbone, readout = _backbone("resnet18"), Readout(flips=True)
    plain, turned = (_read(readout, backbone, x) for x in (images, images.rot90(1, (2, 3))))
    np.testing.assert_allclose(plain, turned, rtol=1e-4, atol=1e-5)


def test_stages_of_a_residual_network_are_its_pooled_maps(images: Tensor) -> None:
    backbone = _backbone("resnet18")
    seen: list[Tensor] = []
    for stage in (backbone.layer2, backbone.layer3, backbone.layer4):
        stage.register_forward_hook(lambda module, args, out: seen.append(out))  # type: ignore[union-attr]
    found = _read(Readout(stages=3), backbone, images)
    expected = torch.cat([stage.mean(dim=(2, 3)) for stage in seen], dim=1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_stages_of_a_transformer_are_class_tokens_of_its_last_blocks(images: Tensor) -> None:
    backbone = _backbone("vit_tiny_patch16_224")
    seen: list[Tensor] = []
    backbone.blocks[-2].register_forward_hook(lambda module, args, out: seen.append(out))  # type: ignore[index, operator]
    found = _read(Readout(stages=2), backbone, images)
    with torch.inference_mode():
        earlier = backbone.norm(seen[0])[:, 0]  # type: ignore[operator]
        expected = torch.cat([earlier, backbone(images)], dim=1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "efficientnet_lite0", "swin_tiny_patch4_window7_224"])
def test_the_output_stands_last_whatever_the_network(name: str, images: Tensor) -> None:
    backbone = _backbone(name)
    own, wide = _read(Readout(), backbone, images), _read(Readout(stages=2), backbone, images)
    assert wide.shape[1] > own.shape[1]
    np.testing.assert_allclose(wide[:, -own.shape[1] :], own, rtol=1e-4, atol=1e-5)


def test_more_stages_than_there_are_is_one_clear_line(images: Tensor) -> None:
    with pytest.raises(InputError, match="stages 9: ResNet has 5; take fewer") as error:
        _read(Readout(stages=9), _backbone("resnet18"), images)
    assert "\n" not in str(error.value)


def test_a_network_that_shows_its_output_only_is_refused(images: Tensor) -> None:
    with pytest.raises(InputError, match="stages 2: Flatten shows its output only"):
        _read(Readout(stages=2), nn.Flatten(), images)
