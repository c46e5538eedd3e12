import pandas as pd
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.datasets.catalogue import find
from leukoscope.cells.datasets.listing import Download
from leukoscope.cells.datasets.pack import pack_dataset

# The true paths of each set, and what its cells are to be called; None is left out.
TREES = {
    "bmc": {
        "BM_cytomorphology_data/ABE/ABE_00001.jpg": {"label": "abnormal eosinophil"},
        "BM_cytomorphology_data/ART/0001-1000/ART_00012.jpg": {"label": "artefact"},
        "BM_cytomorphology_data/NGB/9001-9968/NGB_09454.jpg": {"label": "band neutrophil"},
        "BM_cytomorphology_data/XYZ/XYZ_00001.jpg": {"label": "XYZ"},
        "BM_cytomorphology_data/overview.png": None,
    },
    "aml-hehr": {
        "data/PML_RARA/AXK/image_0.tif": {"label": "PML::RARA", "patient": "AXK", "sex": "female", "age": 61},
        "data/PML_RARA/AXK/image_1.tif": {
            "label": "PML::RARA",
            "patient": "AXK",
            "sex": "female",
            "age": 61,
            "kind": "myeloblast",
        },
        "data/control/BHS/image_0.tif": {"label": "healthy", "patient": "BHS", "sex": "male", "age": 33},
        "data/RUNX1_RUNX1T1/UGU/image_10.tif": {
            "label": "RUNX1::RUNX1T1",
            "patient": "UGU",
            "kind": "atypical promyelocyte, bilobed",
        },
    },
    "aml-matek": {
        "AML-Cytomorphology_LMU/NGS/NGS_0001.tiff": {
            "label": "segmented neutrophil",
            "reannotation_1": "segmented neutrophil",
            "reannotation_2": "band neutrophil",
        },
        "AML-Cytomorphology_LMU/PMB/PMB_0003.tiff": {"label": "bilobed promyelocyte"},
        "AML-Cytomorphology_LMU/MON/MON_0005.tiff.tiff": {"label": "monocyte", "reannotation_1": "monoblast"},
    },
    "acevedo": {
        "PBC_dataset_normal_DIB/neutrophil/BNE_12345.jpg": {"label": "neutrophil", "subtype": "band neutrophil"},
        "PBC_dataset_normal_DIB/neutrophil/SNE_999.jpg": {"label": "neutrophil", "subtype": "segmented neutrophil"},
        "PBC_dataset_normal_DIB/ig/MMY_77.jpg": {"label": "immature granulocyte", "subtype": "metamyelocyte"},
        "PBC_dataset_normal_DIB/platelet/PLATELET_1.jpg": {"label": "platelet", "subtype": "platelet"},
    },
    "raabin": {
        "Train/Basophil/20190526_162951_0.jpg": {"label": "basophil", "split": "train"},
        "TestA/Neutrophil/95-5-1-1_1_1.jpg": {"label": "neutrophil", "split": "test A"},
        "Test-B/Lymphocyte/1.jpg": {"label": "lymphocyte", "split": "test B"},
        "Ground Truth/1.jpg": None,
    },
    "warty-pig": {
        "cropped/Eosinophils/IMG_1.jpg": {"label": "eosinophil"},
        "cropped/Monocyte/IMG_2.jpg": {"label": "monocyte"},
        "raw images/IMG_3.jpg": None,
    },
    "atom": {
        "small/Train/THP1_0001.jpg": {"label": "THP-1"},
        "MB231_02.jpg": {"label": "MDA-MB-231"},
        "label.png": None,
    },
}
TEXTS = {
    "aml-hehr": {
        "metadata.csv": "patient_id,sex_1f_2m,age,bag_label\nAXK,1,61,PML_RARA\nBHS,2.0,33,control\n",
        "image_annotation_master.csv": ",mll_annotation,prediction,ID,im_tiffname\n"
        '0,myeloblast,monocyte,AXK,001.TIF\n1,"atypical promyelocyte, bilobed",other,UGU,010.TIF\n'
        "2,other,other,UVT,010.TIF\n",
    },
    "aml-matek": {
        "annotations.dat": "NGS/NGS_0001.tiff NGS NGS NGB\nPMB/PMB_0003.tiff PMB\nMON/MON_0005.tiff MON MOB\n",
    },
}


@pytest.mark.parametrize("name", TREES)
def test_the_folders_of_a_set_become_its_columns(name, copy, tmp_path):
    images = TREES[name]
    root = copy(images, TEXTS.get(name), shape=(24, 24, 3))
    report = pack_dataset(find(name), root, tmp_path / "out")
    cells = CellSet.open(tmp_path / "out").cells.set_index("source")
    expected = {path: columns for path, columns in images.items() if columns is not None}
    assert sorted(cells.index) == sorted(expected)
    for path, columns in expected.items():
        told = {key: value for key, value in cells.loc[path].items() if key != "cell_id" and not pd.isna(value)}
        assert told == columns
    for path in set(images) - set(expected):
        assert any(path.rpartition("/")[2] in line for line in report.left_out)


def test_a_class_that_the_catalogue_does_not_know_is_kept_and_told(copy, tmp_path):
    root = copy(TREES["bmc"], shape=(24, 24, 3))
    report = pack_dataset(find("bmc"), root, tmp_path / "out")
    assert "'XYZ': 1 cells of a class that the catalogue does not know; the name is kept" in report.differences
    assert report.counts["XYZ"] == 1
    assert "1 .png in BM_cytomorphology_data (such as overview.png): no part of the layout" in report.left_out


def test_patients_that_the_table_does_not_know_are_counted(copy, tmp_path):
    root = copy(TREES["aml-hehr"], TEXTS["aml-hehr"], shape=(24, 24, 3))
    report = pack_dataset(find("aml-hehr"), root, tmp_path / "out")
    assert "1 of 4 cells are not in metadata.csv: no sex, age" in report.left_out
    assert "2 of 4 cells are not in image_annotation_master.csv: no kind" in report.left_out
    assert "patients: 3 packed, 189 stated by Hehr et al. 2023" in report.differences


def test_a_set_without_its_table_is_packed_without_its_columns(copy, tmp_path):
    root = copy(TREES["aml-hehr"], shape=(24, 24, 3))
    report = pack_dataset(find("aml-hehr"), root, tmp_path / "out")
    assert "age" not in CellSet.open(tmp_path / "out").cells.columns
    assert any(line.startswith("no metadata.csv or ") for line in report.left_out)


def test_a_broken_image_is_rejected_and_not_passed_over(copy, tmp_path):
    root = copy(TREES["acevedo"], {"PBC_dataset_normal_DIB/ig/MY_5.jpg": "no image"}, shape=(24, 24, 3))
    report = pack_dataset(find("acevedo"), root, tmp_path / "out")
    assert (report.packing.packed, report.packing.rejected) == (4, 1)
    assert "ig/MY_5.jpg" in (tmp_path / "out" / "rejected.csv").read_text()


def test_the_prefixes_of_the_real_set_are_all_known(real_cells):
    # The shared copy of Acevedo et al. 2020 keeps the names of files and folders.
    entry = find("acevedo")
    table = entry.layout.listing(Download(real_cells / "pbc")).table
    assert len(table) == 13676
    assert set(table["label"]) == set(entry.classes)
    assert set(table["subtype"]) == set(entry.names["subtype"])
    assert (table["subtype"] == "BNE").sum() == 1285


def test_the_thirty_real_images_of_atom(real_cells, tmp_path):
    report = pack_dataset(find("atom"), real_cells / "atom", tmp_path / "out")
    assert report.counts == {"THP-1": 8, "mononuclear cell": 8, "MCF-7": 8, "MDA-MB-231": 6}
    assert report.left_out == ()
