import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.pack import pack
from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.simulate import simulate
from leukoscope.common.errors import CheckFailed, InputError
from leukoscope.encoders.backbone import create_backbone
from leukoscope.encoders.bundle import Encoder, EncoderInfo, random_encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.export_onnx import TOLERANCE, export_onnx
from leukoscope.encoders.readout import Readout

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

MakeSet = Callable[..., CellSet]
# What rounding in float32 leaves, in units of the features' spread; a file is refused from TOLERANCE on.
TINY = TOLERANCE / 10


def run(path: Path, pixels: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, {"pixels": pixels})
    return found


def off(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference in units of the features' spread between cells."""
    return float(np.abs(found - wanted).max() / np.sqrt(np.mean((wanted - wanted.mean(axis=0)) ** 2)))


def test_cells_of_12_bits_in_any_number_and_size(tmp_path: Path) -> None:
    cells = simulate(tmp_path / "cells.set", cells=12, size=40, bit_depth=12, jobs=1)
    encoder = random_encoder("test_resnet", cells, size=32)
    difference = export_onnx(encoder, tmp_path / "e.onnx")
    assert difference.features < TINY
    wanted = embed(cells, encoder, device="cpu", precision="fp32").x
    pixels = cells.read(slice(None))
    assert pixels.dtype == np.uint16
    assert off(run(tmp_path / "e.onnx", pixels)[0], wanted) < TINY
    for count in (1, 2, 5):
        np.testing.assert_allclose(run(tmp_path / "e.onnx", pixels[:count])[0], wanted[:count], rtol=1e-3, atol=1e-4)
    oblong = np.ascontiguousarray(pixels[:, :, 5:, :21])
    expected = encoder.features(torch.from_numpy(oblong)).numpy()
    assert off(run(tmp_path / "e.onnx", oblong)[0], expected) < TINY


def test_a_head_is_exported_behind_the_features_and_the_file_says_what_it_is(make_set: MakeSet, tmp_path: Path) -> None:
    cells = make_set(channels=3, size=64)
    encoder = random_encoder("test_vit", cells, size=64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = nn.Sequential(nn.Linear(2 * encoder.info.feature_dim, 3), nn.Softmax(dim=1)).eval()
    notes = {"classes": ["a", "b", "c"]}
    path = tmp_path / "e.onnx"
    difference = export_onnx(encoder, path, cells=cells, readout=Readout(stages=2), head=head, notes=notes)
    assert difference.probabilities is not None
    assert difference.probabilities < 1e-5
    pixels = cells.read(slice(None))
    features, probabilities = run(path, pixels)
    wanted = encoder.features(torch.from_numpy(pixels), readout=Readout(stages=2))
    assert off(features, wanted.numpy()) < TINY
    with torch.inference_mode():
        np.testing.assert_allclose(probabilities, head(wanted).numpy(), atol=1e-5)
    told = json.loads(next(each.value for each in onnx.load(path).metadata_props if each.key == "leukoscope"))
    assert (told["timm_name"], told["stages"], told["classes"]) == ("test_vit", 2, ["a", "b", "c"])
    assert told["encoder_fingerprint"] == encoder.fingerprint


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_real_smears_of_8_bits(tmp_path: Path, real_cells: Path, name: str) -> None:
    source = tmp_path / "smears"
    source.mkdir()
    for image in sorted((real_cells / "pbc" / "basophil").glob("*.jpg"))[:12]:
        shutil.copy(image, source)
    pack(source, tmp_path / "cells.set", settings=PackSettings(), jobs=1)
    cells = CellSet.open(tmp_path / "cells.set")
    encoder = random_encoder(name, cells, size=64)
    difference = export_onnx(encoder, tmp_path / "e.onnx", cells=cells)
    found = run(tmp_path / "e.onnx", cells.read(slice(None)))[0]
    wanted = embed(cells, encoder, device="cpu", precision="fp32").x
    # Without the rounding of PIL a pixel would be off by up to half a grey level, and features by hundredths.
    assert max(off(found, wanted), difference.features) < TINY


def test_real_flow_cytometry_of_16_bits(tmp_path: Path, real_cells: Path) -> None:
    source = tmp_path / "flow" / "G1"
    source.mkdir(parents=True)
    for channel in ("Ch3", "Ch6"):
        shutil.copy(next((real_cells / "jurkat-ifc" / "G1").glob(f"{channel}_*.tif")), source)
    settings = PackSettings(tile=40, channels=("Ch3_*.tif", "Ch6_*.tif"))
    pack(source.parent, tmp_path / "cells.set", settings=settings, jobs=1)
    cells = CellSet.open(tmp_path / "cells.set")
    encoder = random_encoder("test_vit", cells, size=64)
    export_onnx(encoder, tmp_path / "e.onnx", cells=cells)
    pixels = cells.read(slice(0, 50))
    found = run(tmp_path / "e.onnx", pixels)[0]
    wanted = encoder.features(torch.from_numpy(pixels)).numpy()
    assert off(found, wanted) < TINY


class Liar(nn.Module):
    """Computes something else in a graph than in torch."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x + 1 if torch.compiler.is_exporting() else x)


def test_a_file_that_computes_something_else_is_not_kept(make_set: MakeSet, tmp_path: Path) -> None:
    encoder = random_encoder("test_resnet", make_set(), size=32)
    message = r"e\.onnx: ONNX Runtime computes something else than torch \(.*; probabilities by up to 0\.\d+, 0\.01 is"
    with pytest.raises(CheckFailed, match=message):
        export_onnx(encoder, tmp_path / "e.onnx", head=Liar())
    assert not list(tmp_path.glob("*.onnx*"))


class Undecided(nn.Module):
    """What it does depends on values, which a graph cannot hold."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_exported_is_told_in_one_line(make_set: MakeSet, tmp_path: Path) -> None:
    encoder = random_encoder("test_resnet", make_set(), size=32)
    with pytest.raises(InputError, match=r"test_resnet: torch cannot export it to ONNX \(") as error:
        export_onnx(encoder, tmp_path / "e.onnx", head=Undecided())
    assert "\n" not in str(error.value)


def test_what_is_not_installed_is_told_with_the_extra(
    make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    encoder = random_encoder("test_resnet", make_set(), size=32)
    message = r"onnxscript is not installed, and export to ONNX needs it; run pip install 'leukoscope\[export\]'"
    with pytest.raises(InputError, match=message):
        export_onnx(encoder, tmp_path / "e.onnx")


def test_what_one_file_cannot_hold_is_refused(make_set: MakeSet, tmp_path: Path) -> None:
    cells = make_set()
    name = "vit_giant_patch14_dinov2"
    with torch.device("meta"):
        backbone = create_backbone(name, channels=1, seed=0, size=28)
    encoder = Encoder(backbone, EncoderInfo.of(cells, backbone, timm_name=name, size=28, method="test"))
    with pytest.raises(InputError, match=r"e\.onnx: vit_giant_patch14_dinov2 is larger than 2 GiB.*; export a folder"):
        export_onnx(encoder, tmp_path / "e.onnx")
