import json

import numpy as np
import pytest
from PIL import Image

from leukoscope.cells.cellset import CellSet
from leukoscope.cli.main import run


@pytest.fixture
def call(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr("sys.argv", ["leukoscope", "datasets", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            run()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


@pytest.fixture
def zheng(tmp_path):
    folder = tmp_path / "zheng"
    folder.mkdir()
    for number in (1, 2, 3):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.bmp")
    (folder / "labels.csv").write_text("image ID,class label\n1,1\n2,2\n3,2\n")
    return folder


def test_the_list_names_cells_classes_licence_and_page(call):
    code, out, _ = call()
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("acevedo"))
    assert row.split() == [
        "acevedo",
        "17,092",
        "8",
        "CC",
        "BY",
        "4.0",
        "https://data.mendeley.com/datasets/snkd93bnjr/1",
    ]


def test_one_set_is_told_in_full(call):
    code, out, _ = call("lisc", "--json")
    assert code == 0
    assert "Rezatofighi, Soltanian-Zadeh 2011" in out
    assert "Main Dataset/Baso/1.bmp" in out
    assert json.loads(out.splitlines()[-1])["classes"]["Baso"] == "basophil"


def test_a_copy_is_packed_and_compared(call, zheng, tmp_path):
    code, out, _ = call("zheng-wbc", "--from", zheng, tmp_path / "out", "--size", 32, "--set", "fit=resize", "--json")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split("  ")[0] == "class"
    assert [line.split() for line in lines if line.startswith("lymphocyte")] == [["lymphocyte", "2", "53"]]
    assert "differs: neutrophil: 1 packed, 176 stated by the repository's table of labels" in out
    told = json.loads(lines[-1])
    assert (told["dataset"], told["packed"], told["counts"]["neutrophil"]) == ("zheng-wbc", 3, 1)
    assert "all cells: 3 packed, 300 stated by the repository's table of labels" in told["differences"]
    assert CellSet.open(tmp_path / "out").info.width == 32


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("acevdo",), "did you mean 'acevedo'?"),
        (("zheng-wbc", "--from", "."), "packing needs all three: leukoscope datasets NAME --from DIR OUT"),
        (("zheng-wbc", "out"), "packing needs all three"),
        (("zheng-wbc", "--size", "32"), "packing needs all three"),
        (
            ("zheng-wbc", "--from", "nowhere", "out"),
            "nowhere: no such file or folder; download zheng-wbc from https://",
        ),
        (("zheng-wbc", "--from", ".", "out", "--set", "names=1"), "names follows from the layout of zheng-wbc"),
    ],
)
def test_mistakes_end_with_one_line_and_exit_code_2(call, zheng, monkeypatch, words, message):
    monkeypatch.chdir(zheng)
    code, _, err = call(*words)
    assert code == 2
    assert err.splitlines()[-1].startswith("error: ")
    assert message in err.splitlines()[-1]
