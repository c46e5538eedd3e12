import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.pack import PackSettings, pack
from leukoscope.cells.readers.fields import crop_around
from leukoscope.common.errors import InputError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 4096, shape, dtype=np.uint16)


@given(st.integers(0, 39), st.integers(0, 29), st.integers(1, 50))
def test_crops_hold_the_field_around_their_centroid(x, y, side):
    field = noise(2, 30, 40)
    crop = crop_around(field, x, y, side)
    assert crop.shape == (2, side, side)
    wide = np.pad(field.astype(float), ((0, 0), (60, 60), (60, 60)), constant_values=np.nan)
    top, left = y + 60 - side // 2, x + 60 - side // 2
    expected = wide[:, top : top + side, left : left + side]
    inside = ~np.isnan(expected)
    np.testing.assert_array_equal(crop[inside], expected[inside])
    # What lies outside is one level a channel, which the inside has.
    for channel in range(2):
        outside = crop[channel][~inside[channel]]
        assert len(np.unique(outside)) <= 1
        assert np.isin(outside, crop[channel][inside[channel]]).all()


@pytest.mark.parametrize(("x", "y"), [(-1, 5), (5, -0.6), (40, 5), (5, 29.5), (float("nan"), 5)])
def test_a_centroid_outside_gives_none(x, y):
    assert crop_around(noise(1, 30, 40), x, y, 8) is None


def plate(folder):
    for well in ("A1", "A2"):
        for channel in (1, 2):
            tifffile.imwrite(folder / f"{well}-ch{channel}.tif", noise(100, 120, seed=ord(well[1]) * channel))
    rows = ["path,x,y,label,well", "A1-ch1.tif,50,50,ok,A1", "A2-ch1.tif,60.4,40.6,ok,A2"]
    rows += ["A1-ch1.tif,2,3,edge,A1", "A1-ch1.tif,500,3,far,A1"]
    (folder / "cells.csv").write_text("\n".join(rows))
    return folder / "cells.csv"


def test_cells_are_cut_out_of_fields_of_several_channels(tmp_path):
    settings = PackSettings(crop=32, channels=("*-ch1.tif", "*-ch2.tif"))
    report = pack(plate(tmp_path), tmp_path / "out", settings=settings, jobs=2)
    cellset = CellSet.open(tmp_path / "out")
    assert (report.reader, report.packed, report.rejected) == ("fields", 3, 1)
    # Cells of one field stand together, so that it is decoded once.
    assert cellset.cells["well"].tolist() == ["A1", "A1", "A2"]
    assert cellset.cells["x"].tolist() == [50, 2, 60.4]
    np.testing.assert_array_equal(cellset.images[0, 1], noise(100, 120, seed=98)[34:66, 34:66])
    np.testing.assert_array_equal(cellset.images[2, 0], noise(100, 120, seed=50)[25:57, 44:76])
    rejected = (tmp_path / "out" / "rejected.csv").read_text().splitlines()[1]
    assert rejected == 'A1-ch1.tif,2,"centroid outside the field (x=500.0, y=3.0)"'


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("path,x\na.tif,1\n", {"crop": 8}, "no column y; it has path, x"),
        ("path,x,y\na.tif,1,high\n", {"crop": 8}, "column y: not a number in every row"),
        ("path,x,y\na.tif,1,\n", {"crop": 8}, "column y: not a number in every row"),
        ("path,x,y\na.tif,1,2\n", {"reader": "fields"}, "needs the side of the crops; give --crop"),
    ],
)
def test_faults_of_the_table_are_told(tmp_path, text, settings, message):
    (tmp_path / "cells.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        pack(tmp_path / "cells.csv", tmp_path / "out", settings=PackSettings(**settings))


def test_fields_may_have_a_column_a_channel(tmp_path):
    plate(tmp_path)
    rows = ["dna,actin,x,y", "A1-ch1.tif,A2-ch2.tif,50,50", "A2-ch2.tif,A1-ch1.tif,60,40"]
    (tmp_path / "screen.csv").write_text("\n".join(rows))
    settings = PackSettings(crop=32, channels=("DNA={dna}", "actin={actin}"))
    pack(tmp_path / "screen.csv", tmp_path / "out", settings=settings)
    cellset = CellSet.open(tmp_path / "out")
    assert cellset.info.channels == ("DNA", "actin")
    np.testing.assert_array_equal(cellset.images[0, 1], noise(100, 120, seed=100)[34:66, 34:66])
    np.testing.assert_array_equal(cellset.images[1, 1], noise(100, 120, seed=49)[24:56, 44:76])
