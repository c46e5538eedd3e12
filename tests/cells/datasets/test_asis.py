import numpy as np
import pytest
import tifffile

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.datasets.catalogue import find
from leukoscope.cells.datasets.pack import pack_dataset
from leukoscope.common.errors import InputError


def medmnist(path):
    path.parent.mkdir(exist_ok=True)
    arrays = {}
    for number, (part, count) in enumerate((("train", 5), ("val", 1), ("test", 2))):
        noise = np.random.default_rng(number)
        arrays[f"{part}_images"] = noise.integers(0, 255, (count, 28, 28, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.full((count, 1), (3, 7, 0)[number], np.uint8)
    np.savez(path, **arrays)


def test_numbers_of_bloodmnist_become_classes(tmp_path):
    medmnist(tmp_path / "in" / "bloodmnist.npz")
    report = pack_dataset(find("bloodmnist"), tmp_path / "in", tmp_path / "out")
    cells = CellSet.open(tmp_path / "out").cells
    assert cells["label"].tolist() == ["immature granulocyte"] * 5 + ["platelet"] + ["basophil"] * 2
    assert "all cells of split train: 5 packed, 11,959 stated by Yang et al. 2023" in report.differences


def test_several_sizes_of_bloodmnist_in_one_folder_are_a_question(tmp_path):
    medmnist(tmp_path / "in" / "bloodmnist.npz")
    medmnist(tmp_path / "in" / "bloodmnist_64.npz")
    with pytest.raises(InputError, match=r"several sets \(bloodmnist.npz, bloodmnist_64.npz\); give one of the files"):
        pack_dataset(find("bloodmnist"), tmp_path / "in", tmp_path / "out")
    pack_dataset(find("bloodmnist"), tmp_path / "in" / "bloodmnist_64.npz", tmp_path / "out")


def test_montages_of_jurkat_cells_become_cells_of_two_channels(tmp_path):
    noise = np.random.default_rng(0).integers(0, 4096, (2, 3, 80, 80), dtype=np.uint16)
    for phase, montage in zip(("G1", "S_phase", "G2"), noise.transpose(1, 0, 2, 3), strict=True):
        (tmp_path / "jurkat" / phase).mkdir(parents=True)
        for channel, pixels in zip((3, 6), montage, strict=True):
            tifffile.imwrite(tmp_path / "jurkat" / phase / f"Ch{channel}_CP0001.tif", pixels)
    # The folder that holds the phases lies one level down.
    report = pack_dataset(find("jurkat-ifc"), tmp_path, tmp_path / "out")
    cellset = CellSet.open(tmp_path / "out")
    assert report.counts == {"G1": 4, "S": 4, "G2": 4, "prophase": 0, "metaphase": 0, "anaphase": 0, "telophase": 0}
    assert cellset.info.channels == ("bright_field", "dark_field")
    np.testing.assert_array_equal(cellset.images[3], noise[:, 0, 40:, 40:])


def test_real_jurkat_cells(real_cells, tmp_path):
    report = pack_dataset(find("jurkat-ifc"), real_cells / "jurkat-ifc", tmp_path / "out")
    assert report.counts["S"] == 900
    assert report.counts["prophase"] == 606
    assert "G1: 900 packed, 14,333 stated by Blasi et al. 2016" in report.differences
    assert not any(line.startswith("prophase") for line in report.differences)
