import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from leukoscope.cells.writer import CellSetWriter, cell_id


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 1, 32, 32)).astype(np.uint8)
    folder = tmp_path / "cells.set"
    folder.mkdir()
    with CellSetWriter(folder, channels=["grey"], height=32, width=32, dtype=np.dtype(np.uint8)) as writer:
        rows = [{"cell_id": cell_id(p, f"{i}.png"), "source": f"{i}.png", "label": "ab"[i % 2]} for i, p in
                enumerate(pixels)]  # fmt: skip
        writer.add(pixels, rows)
        writer.finish(packing={})
    return folder


def test_heat_and_colours_of_named_cells(
    cells: Path, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--what", "gradcam, pca", "--cells", "3.png,5.png", "--reference", "1.png", "--device", "cpu", "--json"]
    assert leukoscope("explain", cells, "random:resnet10t", "other=random:resnet18", out, *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"{out}: 2 cells, 2 figures", str(out / "report.html")]
    answer = json.loads(lines[-1])
    assert [cell.rpartition(":")[2] for cell in answer["cells"]] == ["3.png#0", "5.png#0"]
    assert answer["references"][0].endswith("1.png#0")
    assert answer["encoders"] == {"random resnet10t": "resnet10t", "other": "resnet18"}
    assert np.load(out / "arrays" / "likeness-other.npy").shape == (3, 32, 32)
    assert (out / "report.html").is_file()


def test_what_could_not_be_drawn_is_said(
    cells: Path, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--what", "attention,pca", "--per-class", "1", "--device", "cpu"]
    encoders = ["random:resnet10t", "random:vit_tiny_patch16_224"]
    assert leukoscope("explain", cells, *encoders, tmp_path / "out", *options) == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        "attention: random resnet10t: resnet10t: no class token that attends to patches; "
        "attention maps need a ViT with one."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--what", "heat"], "--what heat: no such picture"),
        (["--cells", "99.png"], "cell '99.png': not in"),
        (["--what", "attention"], "resnet10t: no class token that attends to patches"),
        (["--classifier", "nowhere"], "nowhere: not a classifier bundle"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(
    cells: Path,
    tmp_path: Path,
    leukoscope: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert leukoscope("explain", cells, "random:resnet10t", tmp_path / "out", *options) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()
