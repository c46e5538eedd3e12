import numpy as np
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.pack import PackSettings, pack
from leukoscope.common.errors import InputError


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def write(path, images, labels=None, save=np.savez_compressed):
    """An archive in MedMNIST's layout: three splits of 60, 20 and 20 %."""
    cuts = [0, len(images) * 6 // 10, len(images) * 8 // 10, len(images)]
    arrays = {}
    for name, start, stop in zip(("train", "val", "test"), cuts[:-1], cuts[1:], strict=True):
        arrays[f"{name}_images"] = images[start:stop]
        if labels is not None:
            arrays[f"{name}_labels"] = labels[start:stop]
    save(path, **arrays)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_splits_labels_and_exact_values(tmp_path, dtype, colour, save, monkeypatch):
    monkeypatch.setattr("leukoscope.cells.readers.npz._BYTES_A_BLOCK", 10_000)
    images = noise(50, 28, 28, *((3,) if colour else ()), dtype=dtype)
    source = write(tmp_path / "blood.npz", images, np.arange(50)[:, None] % 8, save)
    report = pack(source, tmp_path / "out", jobs=2)
    cellset = CellSet.open(tmp_path / "out")
    assert (report.reader, report.packed, report.rejected) == ("npz", 50, 0)
    assert cellset.cells["split"].tolist() == ["train"] * 30 + ["val"] * 10 + ["test"] * 10
    assert cellset.cells["label"].tolist() == [str(k % 8) for k in range(50)]
    expected = images.transpose(0, 3, 1, 2) if colour else images[:, None]
    np.testing.assert_array_equal(cellset.images, expected)
    assert cellset.ids[31].endswith(":blood.npz/val_images#1")


def test_several_labels_an_image_become_columns(tmp_path):
    labels = np.eye(10, 3, dtype=np.uint8)
    source = write(tmp_path / "x.npz", noise(10, 8, 8), labels)
    pack(source, tmp_path / "out")
    cells = CellSet.open(tmp_path / "out").cells
    np.testing.assert_array_equal(cells[["label_1", "label_2", "label_3"]], labels)
    assert "label" not in cells


def test_an_archive_without_labels_has_none(tmp_path):
    pack(write(tmp_path / "x.npz", noise(10, 8, 8)), tmp_path / "out")
    assert CellSet.open(tmp_path / "out").cells.columns.tolist() == ["cell_id", "source", "split"]


def test_what_lies_beyond_a_fault_is_told_to_be_lost(tmp_path, monkeypatch):
    monkeypatch.setattr("leukoscope.cells.readers.npz._BYTES_A_BLOCK", 28 * 28 * 10)
    source = write(tmp_path / "x.npz", noise(100, 28, 28), save=np.savez)
    data = bytearray(source.read_bytes())
    data[20_000] ^= 255
    source.write_bytes(data)
    report = pack(source, tmp_path / "out", jobs=1)
    # The checksum of the 60 training images is known only at their end, so only the last block is lost.
    assert (report.packed, report.rejected) == (90, 1)
    row = (tmp_path / "out" / "rejected.csv").read_text().splitlines()[1]
    assert row.startswith("x.npz/train_images,50,broken archive from here on (Bad CRC-32")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": noise(4, 8, 8)}, "no train_images, val_images or test_images in it"),
        ({"train_images": noise(4, 8, 8, 8)}, r"train_images: shape \(4, 8, 8, 8\) is not \(n, H, W\)"),
        ({"train_images": np.zeros((4, 8, 8))}, "float64 pixels; only unsigned 8 and 16 bit"),
        ({"train_images": noise(4, 8, 8), "train_labels": np.arange(3)}, "train_labels .* do not fit"),
        ({"train_images": np.array([[[object()]]])}, "Python objects are not read"),
    ],
)
def test_other_layouts_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message):
        pack(tmp_path / "x.npz", tmp_path / "out")


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "x.npz").write_text("hello")
    with pytest.raises(InputError, match=r"x\.npz: not a readable \.npz archive \(File is not a zip file\)"):
        pack(tmp_path / "x.npz", tmp_path / "out")


def test_absurd_sizes_are_refused(tmp_path):
    source = write(tmp_path / "x.npz", noise(5, 40, 40))
    with pytest.raises(InputError, match="40x40 pixels; raise --max-pixels"):
        pack(source, tmp_path / "out", settings=PackSettings(max_pixels=100))
