import h5py
import numpy as np
import pytest
from PIL import Image

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.pack import PackSettings, pack
from leukoscope.common.errors import InputError


def noise(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 40, 100), dtype=np.uint8)


def write(path, images, **features):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["imaging:pixel size"] = 0.34
        events = file.create_group("events")
        events.create_dataset("image", data=images, chunks=(5, 40, 100), compression="gzip")
        for name, values in features.items():
            events.create_dataset(name, data=values)
    return path


def test_images_pixel_size_and_chosen_features(tmp_path):
    images, area = noise(300), np.linspace(10, 90, 300)
    source = write(tmp_path / "blood.rtdc", images, area_um=area, deform=area / 100)
    report = pack(source, tmp_path / "out", settings=PackSettings(columns=("area=area_um",)), jobs=2)
    cellset = CellSet.open(tmp_path / "out")
    assert (report.reader, report.packed) == ("rtdc", 300)
    np.testing.assert_array_equal(cellset.images[:, 0], images)
    np.testing.assert_allclose(cellset.cells["area"], area)
    assert cellset.info.pixel_size_um == pytest.approx(0.34)
    assert cellset.cells.columns.tolist() == ["cell_id", "source", "area"]


def test_a_folder_of_files_with_classes_and_one_broken(tmp_path):
    write(tmp_path / "in" / "HL60" / "a.rtdc", noise(5))
    write(tmp_path / "in" / "blood" / "b.rtdc", noise(7, seed=1))
    (tmp_path / "in" / "blood" / "c.rtdc").write_bytes(b"not HDF5")
    with h5py.File(tmp_path / "in" / "blood" / "d.rtdc", "w") as file:
        file.create_group("events")
    report = pack(tmp_path / "in", tmp_path / "out", jobs=2)
    cellset = CellSet.open(tmp_path / "out")
    assert (report.packed, report.rejected) == (12, 2)
    assert cellset.cells["label"].tolist() == ["HL60"] * 5 + ["blood"] * 7
    rejected = (tmp_path / "out" / "rejected.csv").read_text().splitlines()[1:]
    assert rejected[0].startswith("blood/c.rtdc,,broken file (Unable to synchronously open file")
    assert rejected[1] == "blood/d.rtdc,,no images in events/image"


def test_a_truncated_file_is_set_aside(tmp_path):
    write(tmp_path / "in" / "a.rtdc", noise(50))
    data = write(tmp_path / "in" / "b.rtdc", noise(50)).read_bytes()
    (tmp_path / "in" / "b.rtdc").write_bytes(data[: len(data) // 2])
    report = pack(tmp_path / "in", tmp_path / "out", jobs=2)
    assert (report.packed, report.rejected) == (50, 1)


def test_a_feature_that_is_not_there_is_told(tmp_path):
    source = write(tmp_path / "a.rtdc", noise(5))
    with pytest.raises(InputError, match=r"no cell could be packed.*no feature tilt for every event"):
        pack(source, tmp_path / "out", settings=PackSettings(columns=("tilt=tilt",)))


def test_a_file_without_images_says_so(tmp_path):
    with h5py.File(tmp_path / "a.rtdc", "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match=r"a\.rtdc: no images in events/image"):
        pack(tmp_path / "a.rtdc", tmp_path / "out")


def test_folders_of_images_stay_with_the_reader_of_images(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(noise(1)[0]).save(tmp_path / "in" / "a.png")
    assert pack(tmp_path / "in", tmp_path / "out").reader == "images"
