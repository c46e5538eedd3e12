import numpy as np
import pytest
from PIL import Image

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.datasets.catalogue import find
from leukoscope.cells.datasets.pack import pack_dataset

VOC = """<annotation><filename>another name.jpg</filename>
<object><name>WBC</name><bndbox><xmin>41</xmin><ymin>31</ymin><xmax>61</xmax><ymax>71</ymax></bndbox></object>
<object><name>RBC</name><bndbox><xmin>101</xmin><ymin>51</ymin><xmax>111</xmax><ymax>61</ymax></bndbox></object>
<object><name>RBC</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>
</annotation>"""


def field(seed=0, shape=(120, 160, 3)):
    return np.random.default_rng(seed).integers(0, 250, shape).astype(np.uint8).transpose(2, 0, 1)


def test_boxes_of_bccd_become_crops_around_their_centres(copy, tmp_path):
    texts = {
        "BCCD/Annotations/BloodImage_00007.xml": VOC,
        "BCCD/Annotations/BloodImage_00008.xml": "<annotation><object>",
        "BCCD/ImageSets/Main/val.txt": "BloodImage_00007\n",
    }
    # PNG keeps the noise as it is; the reader goes by the stem.
    root = copy(["BCCD/JPEGImages/BloodImage_00007.png"], texts, shape=(120, 160, 3))
    report = pack_dataset(find("bccd"), root, tmp_path / "out", given={"crop": 20})
    cellset = CellSet.open(tmp_path / "out")
    assert cellset.cells["label"].tolist() == ["leukocyte", "red cell"]
    assert cellset.cells["split"].tolist() == ["val", "val"]
    # VOC counts pixels from 1: the box from 41 to 61 has its middle at pixel 50 of 0, 1, 2 ...
    assert cellset.cells[["x", "y", "box_width", "box_height"]].to_numpy().tolist() == [
        [50, 50, 20, 40],
        [105, 55, 10, 10],
    ]
    np.testing.assert_array_equal(cellset.images[1], field()[:, 45:65, 95:115])
    # Crops of one field overlap, so they share a group.
    assert cellset.cells["slide"].tolist() == ["JPEGImages/BloodImage_00007.png"] * 2
    assert "1 boxes without an area, such as JPEGImages/BloodImage_00007.png" in report.left_out
    assert "1 files of boxes cannot be read, such as BloodImage_00008.xml" in report.left_out


def test_boxes_of_aslan_are_shares_of_the_side(copy, tmp_path):
    texts = {"annotations.csv": "image_id,image,xmin,ymin,xmax,ymax,label\n7,image-7.png,0.25,0.5,0.375,0.625,wbc\n"}
    root = copy(["images/image-7.png"], texts, shape=(256, 256, 3))
    pack_dataset(find("aslan"), root, tmp_path / "out", given={"crop": 32})
    cellset = CellSet.open(tmp_path / "out")
    # Edges at 64 and 96 lie around the pixels 64 to 95.
    assert cellset.cells[["label", "x", "y", "box_width"]].iloc[0].tolist() == ["leukocyte", 79.5, 143.5, 32]
    np.testing.assert_array_equal(cellset.images[0], field(shape=(256, 256, 3))[:, 128:160, 64:96])


def test_points_of_chula_become_crops(copy, tmp_path):
    texts = {"Label/1.txt": "60 50 0\n100 40 12\n", "Label/2.txt": "30 30 99\nbroken\n\n", "Label/3.txt": ""}
    root = copy(
        ["Dataset/1.png", "Dataset/2.png", "Dataset/3.png", "RBC Diseases/HS/1.JPG"], texts, shape=(120, 160, 3)
    )
    report = pack_dataset(find("chula"), root, tmp_path / "out", given={"crop": 20})
    cellset = CellSet.open(tmp_path / "out")
    assert cellset.cells["label"].tolist() == ["normal red cell", "elliptocyte", "99"]
    np.testing.assert_array_equal(cellset.images[1], field()[:, 30:50, 90:110])
    assert "1 lines are not 'x y class', such as 2.txt, line 2" in report.left_out
    assert "1 .png in Dataset (such as 3.png): no part of the layout" in report.left_out
    assert "1 .JPG in RBC Diseases/HS (such as 1.JPG): no part of the layout" in report.left_out


def test_masks_of_lisc_are_four_pixels_smaller_on_each_side(copy, tmp_path):
    root = copy(["LISC Database/Main Dataset/Baso/1.bmp"], shape=(120, 160, 3))
    mask = np.zeros((112, 152, 3), np.uint8)
    mask[40:80, 60:100] = 128  # cytoplasm
    mask[50:60, 70:80] = 255  # nucleus
    mask[0:3, 0:3] = 255  # dirt
    path = root / "LISC Database/Ground Truth Segmentation/Baso/areaforexpert1/1_expert.bmp"
    path.parent.mkdir(parents=True)
    Image.fromarray(mask).save(path)
    report = pack_dataset(find("lisc"), root, tmp_path / "out", given={"crop": 20})
    cellset = CellSet.open(tmp_path / "out")
    assert cellset.cells[["label", "x", "y", "mask_area"]].to_numpy().tolist() == [["basophil", 83.5, 63.5, 1600]]
    np.testing.assert_array_equal(cellset.images[0], field()[:, 54:74, 74:94])
    assert any(line.startswith("1 regions under 500 pixels in masks") for line in report.left_out)


@pytest.mark.parametrize(("second", "places"), [(2, [[25, 25], [45, 45]]), (1, [[35, 35]])])
def test_masks_of_nuclick_number_the_nuclei_or_only_mark_them(copy, tmp_path, second, places):
    root = copy(["Hemato_Data/Train/images/img (3).png"], shape=(120, 160, 3))
    mask = np.zeros((120, 160), np.uint8)
    mask[20:31, 20:31] = 1
    mask[40:51, 40:51] = second
    # Two nuclei that touch: told apart where they have numbers.
    mask[31:40, 25:46] = 1 if second == 1 else 0
    if second == 1:
        mask[40:51, 20:40] = mask[20:31, 31:51] = 1
    path = root / "Hemato_Data/Train/masks/img (3)_mask.png"
    path.parent.mkdir()
    Image.fromarray(mask).save(path)
    (path.parent / "img (4)_mask.png").write_text("broken")
    report = pack_dataset(find("nuclick"), root, tmp_path / "out", given={"crop": 20})
    cells = CellSet.open(tmp_path / "out").cells
    assert cells[["x", "y"]].to_numpy().tolist() == places
    assert cells["split"].unique().tolist() == ["train"]
    assert report.counts == {}
    assert "1 masks cannot be read, such as Hemato_Data/Train/masks/img (4)_mask.png" in report.left_out


def test_a_mask_that_is_a_link_out_of_the_copy_is_not_opened(copy, tmp_path):
    root = copy(["Hemato_Data/Train/images/a.png", "Hemato_Data/Train/images/b.png"], shape=(120, 160, 3))
    mask = np.zeros((120, 160), np.uint8)
    mask[20:31, 20:31] = 1
    Image.fromarray(mask).save(tmp_path / "elsewhere.png")
    (root / "Hemato_Data/Train/masks").mkdir()
    Image.fromarray(mask).save(root / "Hemato_Data/Train/masks/a_mask.png")
    (root / "Hemato_Data/Train/masks/b_mask.png").symlink_to(tmp_path / "elsewhere.png")
    report = pack_dataset(find("nuclick"), root, tmp_path / "out", given={"crop": 20})
    assert CellSet.open(tmp_path / "out").cells["source"].tolist() == ["Hemato_Data/Train/images/a.png"]
    assert any("b_mask.png" in line for line in report.left_out)
