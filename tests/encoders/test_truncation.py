from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import create_backbone, feature_width
from leukoscope.encoders.baselines import open_encoder, pretrained_encoder
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.readout import Readout

MakeSet = Callable[..., CellSet]
X = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "stage", "width", "module"),
    [
        ("resnet50", 3, 1024, "layer3"),
        ("resnet18", 1, 64, "layer1"),
        ("convnext_atto", 3, 160, "stages.2"),
        ("tf_efficientnet_lite0", 2, 40, "blocks.2"),
        ("swin_tiny_patch4_window7_224", 2, 192, "layers.1"),
    ],
)
def test_features_are_the_pooled_maps_of_that_stage_of_the_whole_network(
    name: str, stage: int, width: int, module: str
) -> None:
    whole = create_backbone(name, channels=1, seed=3, size=64).eval()
    cut = create_backbone(name, channels=1, seed=3, size=64, truncate_after=stage).eval()
    seen = []
    whole.get_submodule(module).register_forward_hook(lambda _module, _args, out: seen.append(out))
    with torch.inference_mode():
        whole(X)
        found = cut(X)
    maps = seen[0].permute(0, 3, 1, 2) if name.startswith("swin") else seen[0]
    torch.testing.assert_close(found, maps.mean((2, 3)))
    assert found.shape == (2, width)
    assert feature_width(cut) == width
    assert parameters(cut) < parameters(whole) / 2


def test_the_stages_before_a_cut_are_read_as_those_before_the_end() -> None:
    backbone = create_backbone("resnet18", channels=1, seed=0, truncate_after=3).eval()
    with torch.inference_mode():
        expected = [stage.mean((2, 3)) for stage in backbone.forward_intermediates(X, indices=[2, 3])[1]]
        found = Readout(stages=2)(backbone, X)
    torch.testing.assert_close(found, torch.cat(expected, dim=1))
    assert found.shape == (2, 128 + 256)
    with pytest.raises(InputError, match="stages 5: ResNet has 4; take fewer"):
        Readout(stages=5)(backbone, X)


def test_a_truncated_encoder_travels_as_a_bundle(make_set: MakeSet, tmp_path: Path) -> None:
    cells = make_set()
    encoder = random_encoder("resnet50", cells, size=32, truncate_after=3)
    encoder.save(tmp_path / "encoder")
    again = Encoder.load(tmp_path / "encoder")
    assert again.info.truncate_after == 3
    assert again.info.feature_dim == 1024
    features = embed(cells, again, device="cpu")
    np.testing.assert_array_equal(features.x, embed(cells, encoder, device="cpu").x)
    assert features.uns["truncate_after"] == 3


def test_weights_of_the_whole_network_load_into_the_truncated_one(make_set: MakeSet, tmp_path: Path) -> None:
    model = timm.create_model("resnet18", num_classes=5).eval()
    save_file(model.state_dict(), tmp_path / "whole.safetensors")
    encoder = pretrained_encoder(
        "resnet18", make_set(channels=3), weights=tmp_path / "whole.safetensors", truncate_after=3
    )
    x = X.expand(-1, 3, -1, -1)
    with torch.inference_mode():
        expected = model.forward_intermediates(x, indices=[3], intermediates_only=True)[0].mean((2, 3))
        torch.testing.assert_close(encoder.backbone(x), expected)


@pytest.mark.parametrize(
    ("name", "stage", "message"),
    [
        ("resnet18", 5, "truncate_after 5: resnet18 has stages 1, 2, 3, 4; take one of them"),
        ("resnet18", 0, "truncate_after 0: resnet18 has stages 1, 2, 3, 4; take one of them"),
        ("vit_tiny_patch16_224", 3, "truncate_after 3: vit_tiny_patch16_224 has no stages of ever coarser maps"),
    ],
)
def test_a_stage_that_is_not_there_is_one_clear_line(name: str, stage: int, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        create_backbone(name, channels=1, seed=0, size=64, truncate_after=stage)
    assert "\n" not in str(error.value)


def test_a_bundle_is_not_cut_afterwards(make_set: MakeSet, tmp_path: Path) -> None:
    cells = make_set()
    random_encoder("resnet18", cells).save(tmp_path / "encoder")
    with pytest.raises(InputError, match=r"--truncate-after 2: .*encoder is a bundle and ends where it was trained to"):
        open_encoder(str(tmp_path / "encoder"), cells, truncate_after=2)
