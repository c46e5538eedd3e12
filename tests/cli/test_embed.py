import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.encoders.features import Features


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 1, 32, 32)).astype(np.uint8)
    folder = tmp_path / "cells.set"
    folder.mkdir()
    with CellSetWriter(folder, channels=["grey"], height=32, width=32, dtype=np.dtype(np.uint8)) as writer:
        ids = [cell_id(pixels[i], f"{i}.png") for i in range(6)]
        writer.add(pixels, [{"cell_id": ids[i], "source": f"{i}.png", "split": "ab"[i % 2]} for i in range(6)])
        writer.finish(packing={})
    return folder


def test_a_baseline_of_random_weights(
    cells: Path, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "f.h5ad"
    assert leukoscope("embed", cells, "random:resnet18", out, "--only", "split=a", "--json") == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (answer["cells"], answer["dim"]) == (3, 512)
    assert Features.read(out).uns["method"] == "random"


def test_mistakes_end_with_one_line_and_code_2(
    cells: Path, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for encoder, message in [
        ("missing", "missing: not an encoder bundle"),
        ("random:resnet_18", "timm has none of that name"),
        ("imagenet:tf_efficientnet_lite0@none.pth", "none.pth: no such file of weights"),
    ]:
        assert leukoscope("embed", cells, encoder, tmp_path / "f.h5ad") == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "\n" not in error
    assert not (tmp_path / "f.h5ad").exists()
    assert leukoscope("embed", cells, "random:resnet18", tmp_path / "f.csv") == 2
    assert "f.csv: features are written as .h5ad alone; call it f.h5ad" in capsys.readouterr().err
