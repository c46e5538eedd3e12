import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from leukoscope.cells.audit import AuditReport, audit
from leukoscope.cells.cellset import CellSet
from leukoscope.cells.folds import make_folds
from leukoscope.cells.labels import Labels
from leukoscope.cells.simulate import simulate
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.cli.audit import audit as audit_command
from leukoscope.common.errors import CheckFailed, InputError


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    return simulate(tmp_path_factory.mktemp("audit") / "cells.set", cells=64, size=48, patients=4, jobs=1)


def write_set(folder: Path, pixels: np.ndarray, columns: dict[str, Sequence[Any]], bit_depth: int = 8) -> CellSet:
    folder.mkdir(parents=True)
    with CellSetWriter(
        folder,
        channels=[f"c{i}" for i in range(pixels.shape[1])],
        height=pixels.shape[2],
        width=pixels.shape[3],
        dtype=pixels.dtype,
    ) as writer:
        rows = [
            {"cell_id": cell_id(image, "made", i), "source": "made", **{name: v[i] for name, v in columns.items()}}
            for i, image in enumerate(pixels)
        ]
        writer.add(pixels, rows)
        writer.finish(packing={}, bit_depth=bit_depth)
    return CellSet.open(folder)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (40, 1, 24, 24), np.uint8)


def labels(n: int = 40) -> list[str]:
    return ["NEU", "LYM"] * (n // 2)


def found(report: AuditReport) -> dict[str, tuple[str, int]]:
    return {finding.name: (finding.severity, finding.cells) for finding in report.findings}


def test_clean_sets_pass(simulated: CellSet) -> None:
    half = np.arange(len(simulated)) < 32
    evaluation, pretrain = simulated.select(half), simulated.select(~half)
    classes = evaluation.cells["label"].to_numpy(object)
    folds = make_folds(evaluation.cells, classes, n_folds=2, group="patient")
    report = audit([evaluation], pretrain=[pretrain], near=True, folds=folds)
    assert not report.spoiled
    assert {name: severity for name, (severity, _) in found(report).items()} == {
        "patient in pre-training": "warns",
        "slide in pre-training": "warns",
        "rare classes": "warns",
        "class counts": "info",
    }
    report.refuse()


def test_duplicates_within_a_set_warn(tmp_path: Path, pixels: np.ndarray) -> None:
    pixels[[5, 7]] = pixels[3]
    report = audit([write_set(tmp_path / "a.set", pixels, {"label": ["NEU"] * 40})])
    assert found(report) == {"exact duplicates": ("warns", 3), "class counts": ("info", 40)}
    assert [cell.split("#")[1] for cell in report.findings[0].examples[0]] == ["3", "5", "7"]
    assert "1 images occur 3 times" in report.findings[0].detail


def test_one_image_under_two_labels_warns(tmp_path: Path, pixels: np.ndarray) -> None:
    pixels[4] = pixels[3]
    cells = write_set(tmp_path / "a.set", pixels, {"label": labels()})
    report = audit([cells])
    assert found(report)["one image, two labels"] == ("warns", 2)
    assert "1 images under LYM and NEU" in report.findings[0].detail
    settled = Labels(pd.DataFrame({"cell_id": cells.ids, "label": "NEU", "reviewer": None}))
    assert "one image, two labels" not in found(audit([cells], overlay=settled))


def test_cells_in_two_sets_spoil(tmp_path: Path, pixels: np.ndarray) -> None:
    first = write_set(tmp_path / "a.set", pixels[:25], {"label": labels(40)[:25]})
    second = write_set(tmp_path / "b.set", pixels[20:], {"label": labels(40)[20:]})
    report = audit([first, second])
    assert found(report)["cells in two sets"] == ("spoils", 10)
    with pytest.raises(CheckFailed, match="cells in two sets: 5 images occur in more than one set"):
        report.refuse()
    assert found(audit([first, first]))["cells in two sets"] == ("spoils", 50)


def test_pretraining_cells_that_reappear_spoil(tmp_path: Path, pixels: np.ndarray) -> None:
    patients = [f"P{i // 10}" for i in range(40)]
    evaluation = write_set(tmp_path / "a.set", pixels[:25], {"label": labels()[:25], "patient": patients[:25]})
    pretrain = write_set(tmp_path / "b.set", pixels[22:], {"patient": patients[22:]})
    report = audit([evaluation], pretrain=[pretrain])
    assert found(report)["pre-training cells"] == ("spoils", 3)
    assert found(report)["patient in pre-training"] == ("warns", 5)


@pytest.mark.parametrize("column", ["patient", "slide", "donor"])
def test_a_group_on_both_sides_of_the_split_spoils(tmp_path: Path, pixels: np.ndarray, column: str) -> None:
    groups = [None, *[f"G{i // 10}" for i in range(1, 40)]]
    split = ["train" if i < 25 else "test" for i in range(40)]
    cells = write_set(tmp_path / "a.set", pixels, {"label": labels(), column: groups, "split": split})
    report = audit([cells], group=column)
    assert found(report)[f"{column} across split"] == ("spoils", 10)
    assert "1 values of" in report.findings[0].detail
    split = ["train" if i < 20 else "test" for i in range(40)]
    whole = write_set(tmp_path / "b.set", pixels, {"label": labels(), column: groups, "split": split})
    assert not audit([whole], group=column).spoiled


def test_a_duplicate_on_both_sides_of_the_split_spoils(tmp_path: Path, pixels: np.ndarray) -> None:
    pixels[30] = pixels[2]
    split = ["train"] * 20 + ["test"] * 20
    report = audit([write_set(tmp_path / "a.set", pixels, {"label": labels(), "split": split})])
    assert found(report)["exact duplicates across split"] == ("spoils", 2)


def test_folds_that_leak_spoil(tmp_path: Path, pixels: np.ndarray) -> None:
    pixels[30] = pixels[2]
    patients = [f"P{i % 8}" for i in range(40)]
    cells = write_set(tmp_path / "a.set", pixels, {"label": ["NEU"] * 40, "patient": patients})
    fold = np.arange(40) // 8
    naive = pd.concat(
        pd.DataFrame({"cell_id": cells.ids, "repeat": 0, "fold": f, "role": np.where(fold == f, "test", "train")})
        for f in range(5)
    )
    report = audit([cells], folds=naive)
    assert found(report)["exact duplicates across folds"] == ("spoils", 2)
    assert found(report)["patient across folds"] == ("spoils", 40)
    sound = make_folds(cells.cells, cells.cells["label"].to_numpy(object), group="patient")
    assert not audit([cells], folds=sound).spoiled


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 12)])
def test_constant_and_saturated_images_warn(tmp_path: Path, dtype: type, bits: int) -> None:
    top = 2**bits - 1
    pixels = np.random.default_rng(0).integers(1, top, (30, 2, 16, 16)).astype(dtype)
    pixels[0] = 7
    pixels[1, 0] = 7  # the other channel is alive
    pixels[2, 1, :6] = top
    pixels[3, 0, 4:9] = 0
    pixels[4, 0, :3] = top  # a fifth is no more than a bright halo
    report = audit([write_set(tmp_path / "a.set", pixels, {"label": labels(30)}, bits)])
    assert found(report)["constant images"] == ("warns", 1)
    assert found(report)["saturated images"] == ("warns", 2)
    names = {finding.name: [cell[0].split("#")[1] for cell in finding.examples] for finding in report.findings}
    assert names["constant images"] == ["0"]
    assert names["saturated images"] == ["2", "3"]


def recompressed(image: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image[0]).save(stream, "JPEG", quality=95)
    return np.array(Image.open(stream))[None]


def test_near_duplicates_are_found_within_and_across_sets(tmp_path: Path, simulated: CellSet) -> None:
    images = simulated.read(slice(None))
    again = images.copy()
    again[40] = np.clip(images[3].astype(int) * 0.8 + 12, 0, 255).astype(np.uint8)
    again[41] = recompressed(images[5])
    first = write_set(tmp_path / "a.set", again, {"label": labels(64)})
    dimmer = np.clip(images[9:10].astype(int) - 9, 0, 255).astype(np.uint8)
    second = write_set(tmp_path / "b.set", dimmer, {"label": ["NEU"]})
    report = audit([first], pretrain=[second], near=True)
    by_name = {finding.name: finding for finding in report.findings}
    assert by_name["near duplicates"].cells == 4
    pairs = [{cell.split("#")[1] for cell in pair} for pair in by_name["near duplicates"].examples]
    assert {"3", "40"} in pairs
    assert {"5", "41"} in pairs
    assert by_name["near duplicates in two sets"].cells == 2
    assert not report.spoiled
    assert "near duplicates" not in found(audit([first], pretrain=[second]))


def test_classes_are_counted_and_rare_ones_named(tmp_path: Path, pixels: np.ndarray) -> None:
    classes = ["NEU"] * 30 + ["BAS"] * 3 + [None] * 7
    report = audit([write_set(tmp_path / "a.set", pixels, {"label": classes})])
    details = {finding.name: finding.detail for finding in report.findings}
    assert details["class counts"] == "BAS 3, NEU 30, without a label 7"
    assert details["rare classes"].endswith("too few to cross-validate: BAS 3")


def test_memory_does_not_grow_with_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    pixels = np.random.default_rng(0).integers(1, 255, (3000, 1, 100, 100), np.uint8)
    cells = write_set(tmp_path / "a.set", pixels, {"label": labels(3000)})
    del pixels
    monkeypatch.setattr("leukoscope.cells.auditing.pixels._BLOCK_BYTES", 2**20)
    tracemalloc.start()
    audit([cells], near=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Blocks of 1 MiB of pixels, as float32 a few times over; the set itself has 30 MB.
    assert peak < 16 * 2**20


def test_the_verb_prints_writes_and_fails_where_an_evaluation_is_spoiled(
    tmp_path: Path, pixels: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = write_set(tmp_path / "a.set", pixels, {"label": labels()})
    out = tmp_path / "audit.json"
    audit_command([cells.path], out=out, json=True)
    printed = capsys.readouterr().out
    assert "class counts" in printed
    assert json.loads(printed.splitlines()[-1])["spoiled"] is False
    with pytest.raises(CheckFailed) as error:
        audit_command([cells.path], pretrain=[cells.path], out=out)
    assert error.value.exit_code == 1
    assert str(error.value).endswith(f"40 images were also in {cells.path}; an evaluation would be spoiled")
    written = json.loads(out.read_text())
    assert written["spoiled"] is True
    assert written["findings"][0]["name"] == "pre-training cells"


def test_mistakes_are_said_in_one_line(tmp_path: Path, pixels: np.ndarray) -> None:
    cells = write_set(tmp_path / "a.set", pixels, {"label": labels()})
    with pytest.raises(InputError, match=r"--group donor: no such column in .*a.set; there is cell_id, source, label"):
        audit([cells], group="donor")
    with pytest.raises(InputError, match=r"--label kind: no such column in .*a.set"):
        audit([cells], label="kind")
    with pytest.raises(InputError, match=r"--labels: the file names none of the cells of .*a.set"):
        audit([cells], overlay=Labels(pd.DataFrame({"cell_id": ["x"], "label": ["NEU"]})))
    other = pd.DataFrame({"cell_id": ["x"], "repeat": 0, "fold": 0, "role": "test"})
    with pytest.raises(InputError, match="folds: they name none of the cells"):
        audit([cells], folds=other)


def test_the_known_duplicates_of_real_smears_are_found(tmp_path: Path, real_cells: Path) -> None:
    """``pbc`` holds a few exact duplicates, one pair of them under two labels."""
    files = [
        *("neutrophil/BNE_191112.jpg", "eosinophil/EO_225902.jpg", "basophil/BA_251042.jpg", "basophil/BA_988506.jpg"),
        *(f"{p.parent.name}/{p.name}" for p in sorted((real_cells / "pbc" / "neutrophil").glob("*.jpg"))[:60]),
    ]
    files = list(dict.fromkeys(files))
    images = np.stack([np.array(Image.open(real_cells / "pbc" / f)).transpose(2, 0, 1) for f in files])
    classes = [file.split("/")[0] for file in files]
    report = audit([write_set(tmp_path / "pbc.set", images, {"label": classes})], near=True)
    assert found(report)["exact duplicates"] == ("warns", 4)
    assert found(report)["one image, two labels"] == ("warns", 2)
    assert "near duplicates" not in found(report)
