import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import create_backbone
from leukoscope.encoders.baselines import pretrained_encoder
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.encoders.export_timm import export_timm
from leukoscope.encoders.stem import FoldedStem

MakeSet = Callable[..., CellSet]


def folded(cells: CellSet, folder: Path) -> Encoder:
    """A grey encoder with the normalisation of photographs folded into its padded stem."""
    save_file(create_backbone("resnet18", channels=3, seed=1).state_dict(), folder / "rgb.safetensors")
    encoder = pretrained_encoder("resnet18", cells, weights=folder / "rgb.safetensors")
    assert isinstance(encoder.backbone.conv1, FoldedStem)
    return encoder


ENCODERS: dict[str, Callable[[CellSet, Path], Encoder]] = {
    "convolutions": lambda cells, folder: random_encoder("test_resnet", cells),
    "transformer": lambda cells, folder: random_encoder("test_vit", cells),
    "truncated": lambda cells, folder: random_encoder("resnet18", cells, truncate_after=3),
    "folded stem": folded,
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_lines_of_the_model_card_give_the_features(
    make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    cells = make_set(size=48, bits=12)
    encoder = ENCODERS[kind](cells, tmp_path)
    assert export_timm(encoder, tmp_path / "exported") < 1e-3
    card = (tmp_path / "exported" / "README.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    pixels = torch.from_numpy(cells.read(slice(0, 4)))
    names: dict[str, Any] = {"pixels": pixels.float()}
    monkeypatch.chdir(tmp_path)
    with torch.inference_mode():
        exec(lines, names)
    torch.testing.assert_close(names["features"], encoder.features(pixels), rtol=1e-3, atol=1e-4)


def test_the_folder_says_what_it_is(make_set: MakeSet, tmp_path: Path) -> None:
    encoder = random_encoder("test_resnet", make_set())
    export_timm(encoder, tmp_path / "exported")
    assert sorted(path.name for path in (tmp_path / "exported").iterdir()) == [
        *("README.md", "config.json", "model.safetensors")
    ]
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert (config["architecture"], config["num_features"]) == ("test_resnet", encoder.info.feature_dim)
    known = config["pretrained_cfg"]
    assert (known["mean"], known["std"]) == (list(encoder.info.mean), list(encoder.info.std))
    assert (known["tag"], known["license"]) == ("random", "none needed")
    card = (tmp_path / "exported" / "README.md").read_text()
    assert encoder.fingerprint in card
    assert "- licence: none needed" in card
    with pytest.raises(InputError, match=r"exported: exists already; choose another name or give --overwrite"):
        export_timm(encoder, tmp_path / "exported")
    export_timm(encoder, tmp_path / "exported", overwrite=True)
