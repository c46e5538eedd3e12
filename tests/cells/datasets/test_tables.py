import re

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.datasets.catalogue import find
from leukoscope.cells.datasets.pack import pack_dataset
from leukoscope.cells.datasets.tables import Join
from leukoscope.common.errors import InputError


def test_both_tables_of_sslseg_are_read_though_their_columns_differ(copy, tmp_path):
    images = ["Dataset 1/001.bmp", "Dataset 1/002.bmp", "Dataset 2/001.bmp", "Dataset 1/001.png"]
    texts = {
        "Class Labels of Dataset 1.csv": "image ID,class label\r\n1,2\r\n2,5\r\n",
        "Class Labels of Dataset 2.csv": "image ID,class\r\n1,1\r\n",
    }
    report = pack_dataset(find("sslseg"), copy(images, texts, shape=(30, 30, 3)), tmp_path / "out")
    cells = CellSet.open(tmp_path / "out").cells
    assert cells[["source", "label", "batch"]].to_numpy().tolist() == [
        ["Dataset 1/001.bmp", "lymphocyte", "Dataset 1"],
        ["Dataset 1/002.bmp", "basophil", "Dataset 1"],
        ["Dataset 2/001.bmp", "neutrophil", "Dataset 2"],
    ]
    assert report.left_out == ("1 .png in Dataset 1 (such as 001.png): no part of the layout",)


def test_one_of_two_tables_may_be_absent(copy, tmp_path):
    texts = {"Class Labels of Dataset 2.csv": "image ID,class\n1,1\n"}
    report = pack_dataset(find("sslseg"), copy(["Dataset 2/001.bmp"], texts, shape=(30, 30, 3)), tmp_path / "out")
    assert report.packing.packed == 1
    assert "no Class Labels of Dataset 1.csv" in report.left_out


def test_numbers_become_classes_in_the_flat_copy_of_zheng(copy, tmp_path):
    texts = {"labels.csv": "image ID,class label\n1,4\n12,9\n"}
    report = pack_dataset(find("zheng-wbc"), copy(["001.bmp", "012.bmp"], texts, shape=(30, 30, 3)), tmp_path / "out")
    assert CellSet.open(tmp_path / "out").cells["label"].tolist() == ["eosinophil", "9"]
    assert report.counts["9"] == 1


def test_an_image_that_the_table_names_and_the_copy_lacks_is_rejected(copy, tmp_path):
    texts = {"labels.csv": "image ID,class label\n1,4\n2,1\n"}
    report = pack_dataset(find("zheng-wbc"), copy(["001.bmp"], texts, shape=(30, 30, 3)), tmp_path / "out")
    assert (report.packing.packed, report.packing.rejected) == (1, 1)


def test_the_real_cells_of_zheng_are_as_many_as_stated(real_cells, tmp_path):
    report = pack_dataset(find("zheng-wbc"), real_cells / "zheng-wbc", tmp_path / "out")
    assert report.counts == {"neutrophil": 176, "lymphocyte": 53, "monocyte": 48, "eosinophil": 22, "basophil": 1}
    assert report.differences == ()


def test_numbers_are_joined_as_numbers_and_long_lines_lose_their_last_fields(tmp_path):
    (tmp_path / "moa.csv").write_text("compound,dose,moa\nx,0.30,one\nx,3,two,too,many\n")
    join = Join(file=("moa.csv",), match={"compound": "compound", "dose": "dose"}, take={"label": "moa"})
    table, lines = join.beside(pd.DataFrame({"compound": ["x", "x", "y"], "dose": ["0.3", "3.0", "3"]}), tmp_path)
    assert table["label"].tolist()[:2] == ["one", "two"]
    assert table.columns.tolist() == ["compound", "dose", "label"]
    assert lines == ("1 of 3 cells are not in moa.csv: no label",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\n1,2\n", "no column image ID, class label; it has image, label"),
        ("image ID,class label\none,2\n", "{image ID:03d}.bmp: invalid literal for int"),
        ("", "no column image ID, class label; it has "),
    ],
)
def test_a_table_of_another_kind_is_refused(copy, tmp_path, text, message):
    root = copy(["001.bmp"], {"labels.csv": text}, shape=(30, 30, 3))
    with pytest.raises(InputError, match=re.escape(f"labels.csv: {message}")):
        pack_dataset(find("zheng-wbc"), root, tmp_path / "out")


SCREENS = {
    "bbbc021": {
        "BBBC021_v1_image.csv": (
            "TableNumber,ImageNumber,Image_FileName_DAPI,Image_PathName_DAPI,Image_FileName_Tubulin,"
            "Image_FileName_Actin,Image_Metadata_Plate_DAPI,Image_Metadata_Well_DAPI,Replicate,"
            "Image_Metadata_Compound,Image_Metadata_Concentration\n"
            "4,233,G10_s1_w1BEDC.tif,Week4/Week4_27481,G10_s1_w2DCEC.tif,G10_s1_w4E0ED.tif,Week4_27481,G10,1,taxol,0.3\n"
            "4,234,G10_s2_w1A.tif,Week4/Week4_27481,G10_s2_w2A.tif,G10_s2_w4A.tif,Week4_27481,G10,1,new,1\n"
        ),
        "BBBC021_v1_moa.csv": "compound,concentration,moa\ntaxol,0.30,Microtubule stabilizers\n",
        "Nuclei.csv": (
            "ImageNumber,FileName_DAPI,Location_Center_X,Location_Center_Y\n"
            "1,G10_s1_w1BEDC.tif,100,70.4\n1,G10_s2_w1A.tif,80,nan\n1,G10_s2_w1A.tif,80,90\n1,other.tif,80,90\n"
        ),
    },
    "bbbc022": {
        "BBBC022_v1_image.csv": (
            "ImageNumber,Image_FileName_OrigER,Image_FileName_OrigHoechst,Image_FileName_OrigMito,"
            "Image_FileName_OrigPh_golgi,Image_FileName_OrigSyto,Image_Metadata_ASSAY_WELL_ROLE,"
            "Image_Metadata_CPD_WELL_POSITION,Image_Metadata_PlateID,Image_Metadata_SOURCE_COMPOUND_NAME,"
            "Image_Metadata_Site\n"
            "1,IXMtest_A01_s1_w2B.tif,IXMtest_A01_s1_w1A.tif,IXMtest_A01_s1_w5E.tif,IXMtest_A01_s1_w4D.tif,"
            "IXMtest_A01_s1_w3C.tif,mock,a01,20585,,1,too,many\n"
        ),
        "Nuclei.csv": (
            "FileName_OrigHoechst,Nuclei_Location_Center_X,Nuclei_Location_Center_Y\nIXMtest_A01_s1_w1A.tif,90,80\n"
        ),
    },
}


def test_nuclei_of_bbbc021_are_cut_out_of_three_files(copy, tmp_path):
    plate = "Week4_27481"
    names = ["G10_s1_w1BEDC", "G10_s1_w4E0ED", "G10_s1_w2DCEC", "G10_s2_w1A", "G10_s2_w4A", "G10_s2_w2A"]
    images = [f"{plate}/{name}.tif" for name in names]
    root = copy(images, SCREENS["bbbc021"], shape=(160, 200))
    report = pack_dataset(find("bbbc021"), root, tmp_path / "out", given={"crop": 32})
    cellset = CellSet.open(tmp_path / "out")
    assert cellset.info.channels == ("DNA", "actin", "tubulin")
    assert cellset.cells["label"].tolist()[:1] == ["Microtubule stabilizers"]
    assert pd.isna(cellset.cells["label"][1])
    assert cellset.cells["slide"].tolist() == ["Week4_27481 G10"] * 2
    assert cellset.cells[["batch", "well", "compound"]].iloc[0].tolist() == [plate, "G10", "taxol"]
    actin = np.random.default_rng(1).integers(0, 250, (160, 200))
    np.testing.assert_array_equal(cellset.images[0, 1], actin[70 - 16 : 70 + 16, 100 - 16 : 100 + 16])
    assert "1 rows of Nuclei.csv have no place" in report.left_out
    assert "1 cells lie in fields that BBBC021_v1_image.csv does not name" in report.left_out


def test_five_channels_of_bbbc022_lie_in_five_folders(copy, tmp_path):
    images = [f"BBBC022_v1_images_20585w{w}/IXMtest_A01_s1_w{w}{letter}.tif" for w, letter in enumerate("ABCDE", 1)]
    root = copy(images, SCREENS["bbbc022"], shape=(160, 200))
    report = pack_dataset(find("bbbc022"), root, tmp_path / "out", given={"crop": 64})
    cellset = CellSet.open(tmp_path / "out")
    assert cellset.info.channels == ("DNA", "ER", "RNA", "actin and Golgi", "mitochondria")
    assert cellset.info.pixel_size_um == 0.656
    assert cellset.cells[["slide", "role"]].iloc[0].tolist() == ["20585 a01", "mock"]
    mitochondria = np.random.default_rng(4).integers(0, 250, (160, 200))
    np.testing.assert_array_equal(cellset.images[0, 4], mitochondria[48:112, 58:122])
    assert report.left_out == ()


def test_a_screen_says_what_table_it_needs(copy, tmp_path):
    texts = {"BBBC021_v1_image.csv": SCREENS["bbbc021"]["BBBC021_v1_image.csv"]}
    root = copy([], texts, shape=(8, 8))
    with pytest.raises(InputError, match=r"no Nuclei.csv; .* FileName_DAPI, Location_Center_X and Location_Center_Y"):
        pack_dataset(find("bbbc021"), root, tmp_path / "out")
    (root / "Nuclei.csv").write_text("FileName_DAPI,X\na,1\n")
    with pytest.raises(InputError, match=r"Nuclei.csv: no column Location_Center_X or Nuclei_Location"):
        pack_dataset(find("bbbc021"), root, tmp_path / "out")
