import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.intensity import Intensity
from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import create_backbone
from leukoscope.encoders.bundle import Encoder, EncoderInfo, random_encoder

MakeSet = Callable[..., CellSet]


@pytest.fixture
def bundle(make_set: MakeSet, tmp_path: Path) -> Path:
    random_encoder("resnet18", make_set(), size=32, seed=0).save(tmp_path / "encoder")
    return tmp_path / "encoder"


def edit(bundle: Path, **changes: object) -> None:
    info = json.loads((bundle / "encoder.json").read_text())
    (bundle / "encoder.json").write_text(json.dumps({**info, **changes}))


def test_the_bundle_holds_public_formats_only(bundle: Path) -> None:
    assert sorted(path.name for path in bundle.iterdir()) == ["encoder.json", "encoder.safetensors"]
    assert json.loads((bundle / "encoder.json").read_text())["timm_name"] == "resnet18"
    assert "conv1.weight" in load_file(bundle / "encoder.safetensors")


def test_a_folded_stem_survives_saving(make_set: MakeSet, tmp_path: Path) -> None:
    cellset = make_set()
    save_file(create_backbone("resnet18", channels=3, seed=1).state_dict(), tmp_path / "rgb.safetensors")
    weights = tmp_path / "rgb.safetensors"
    backbone = create_backbone("resnet18", channels=1, weights=weights, seed=0, mean=(0.3,), std=(0.2,))
    info = EncoderInfo.of(
        cellset, backbone, timm_name="resnet18", size=32, method="test", mean=(0.3,), std=(0.2,), licence="MIT"
    )
    encoder = Encoder(backbone, info)
    encoder.save(tmp_path / "encoder")
    pixels = torch.from_numpy(cellset.read(slice(0, 4)))
    assert torch.equal(Encoder.load(tmp_path / "encoder").features(pixels), encoder.features(pixels))


def test_the_fingerprint_follows_weights_and_preprocessing(make_set: MakeSet) -> None:
    cellset = make_set()
    encoder = random_encoder("resnet18", cellset, size=32, seed=0)
    assert random_encoder("resnet18", cellset, size=32, seed=0).fingerprint == encoder.fingerprint
    assert random_encoder("resnet18", cellset, size=32, seed=1).fingerprint != encoder.fingerprint
    assert random_encoder("resnet18", cellset, size=64, seed=0).fingerprint != encoder.fingerprint
    other = Encoder(encoder.backbone, encoder.info.model_copy(update={"mean": (0.1,)}))
    assert other.fingerprint != encoder.fingerprint


def test_a_12_bit_camera_gives_the_features_of_the_same_scene_in_8_bit(make_set: MakeSet) -> None:
    cellset = make_set()
    encoder = random_encoder("resnet18", cellset, size=32, seed=0)
    eight = cellset.read(slice(0, 4))
    twelve = np.round(eight.astype(np.float64) / 255 * 4095).astype(np.uint16)
    found = encoder.features(torch.from_numpy(twelve), intensity=Intensity.of_bit_depth(12, 1))
    torch.testing.assert_close(found, encoder.features(torch.from_numpy(eight)), rtol=0.01, atol=0.01)


def test_a_folder_without_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: not an encoder bundle \(no encoder\.json\)"):
        Encoder.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 9}, r"encoder\.json: format 9, this version reads 1"),
        ({"meen": [0.5]}, r"encoder\.json: unknown key 'meen'; did you mean 'mean'"),
        ({"mean": [0.5, 0.5]}, r"encoder\.json: settings: channel_names, mean, std and intensity need one value"),
        ({"timm_name": "resnet34"}, r"encoder\.safetensors: \d+ tensors are missing, first layer"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(bundle: Path, changes: dict[str, object], message: str) -> None:
    edit(bundle, **changes)
    with pytest.raises(InputError, match=message) as error:
        Encoder.load(bundle)
    assert "\n" not in str(error.value)


def test_missing_unknown_and_misshapen_tensors_are_named(bundle: Path) -> None:
    path = bundle / "encoder.safetensors"
    tensors = load_file(path)
    for changed, message in [
        ({k: v for k, v in tensors.items() if k != "bn1.bias"}, "1 tensors are missing, first bn1.bias"),
        ({**tensors, "extra": torch.zeros(1)}, "1 tensors are unknown, first extra"),
        ({**tensors, "bn1.bias": torch.zeros(3)}, r"tensor bn1.bias is \(3,\), encoder.json asks for \(64,\)"),
    ]:
        save_file(changed, path)
        with pytest.raises(InputError, match=message):
            Encoder.load(bundle)


def test_a_truncated_file_of_weights_is_refused(bundle: Path) -> None:
    path = bundle / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"encoder\.safetensors: not readable as weights"):
        Encoder.load(bundle)


def test_an_encoder_is_frozen_and_in_evaluation_mode(make_set: MakeSet) -> None:
    encoder = random_encoder("resnet18", make_set(), size=32, seed=0)
    assert not encoder.backbone.training
    assert not any(parameter.requires_grad for parameter in encoder.backbone.parameters())


def test_the_random_baseline_is_no_straw_man(make_set: MakeSet) -> None:
    """Residual branches that start at zero would leave hardly more than strided sampling of the pixels."""
    baseline = random_encoder("resnet18", make_set(), size=32, seed=0).backbone
    to_be_trained = create_backbone("resnet18", channels=1, seed=0)
    for backbone in (baseline, to_be_trained):
        assert torch.equal(backbone.layer1[0].bn2.weight, torch.ones(64))
