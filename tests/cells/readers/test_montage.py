import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.pack import PackSettings, pack
from leukoscope.cells.readers.montage import cut_tiles, is_padding
from leukoscope.cells.readers.protocol import Unreadable
from leukoscope.common.errors import InputError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 4096, shape, dtype=np.uint16)


def montage(tiles, columns):
    """Lay tiles ``(n, H, W)`` row by row."""
    rows = [np.concatenate(list(tiles[k : k + columns]), axis=1) for k in range(0, len(tiles), columns)]
    return np.concatenate(rows, axis=0)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 6))
def test_tiles_come_row_by_row(channels, rows, columns, side):
    tiles = noise(channels, rows * columns, side, side)
    pixels = np.stack([montage(plane, columns) for plane in tiles])
    np.testing.assert_array_equal(cut_tiles(pixels, side), tiles.swapaxes(0, 1))


def test_a_montage_of_no_whole_number_of_tiles_is_refused():
    with pytest.raises(Unreadable, match="50x40 pixels are no whole number of tiles of 40; check --tile"):
        cut_tiles(noise(1, 40, 50), 40)


def test_padding_is_flat_along_an_axis_or_repeats():
    tiles = noise(9, 2, 8, 8)
    tiles[1] = 5
    tiles[2] = tiles[2, :, :1]
    tiles[3] = tiles[3, :, :, :1]
    tiles[4:7] = tiles[4]
    tiles[7, 0] = 5
    expected = [False, True, True, True, True, True, True, False, False]
    assert is_padding(tiles).tolist() == expected


def test_a_cell_that_was_exported_twice_is_no_padding():
    tiles = noise(4, 1, 8, 8)
    tiles[2] = tiles[1]
    assert not is_padding(tiles).any()


def test_channels_classes_indices_and_exact_values(tmp_path):
    source = tmp_path / "in"
    first, second = noise(2, 12, 10, 10, seed=1), noise(2, 12, 10, 10, seed=2)
    first[:, 5:] = 77
    for folder, cells in {"G1": first, "S": second}.items():
        (source / folder).mkdir(parents=True)
        for channel, tiles in zip(("Ch3", "Ch6"), cells, strict=True):
            tifffile.imwrite(source / folder / f"{channel}_1.tif", montage(tiles, 4))
    settings = PackSettings(tile=10, channels=("Ch3_*.tif", "Ch6_*.tif"))
    report = pack(source, tmp_path / "out", settings=settings, jobs=2)
    cellset = CellSet.open(tmp_path / "out")
    assert (report.packed, report.dropped_padding, report.rejected) == (17, 7, 0)
    assert cellset.info.channels == ("Ch3", "Ch6")
    assert cellset.cells["label"].tolist() == ["G1"] * 5 + ["S"] * 12
    np.testing.assert_array_equal(cellset.images[:5], first[:, :5].swapaxes(0, 1))
    np.testing.assert_array_equal(cellset.images[5:], second.swapaxes(0, 1))
    assert cellset.ids[6].endswith(":S/Ch3_1.tif#1")


def test_a_montage_without_a_tile_size_says_what_is_missing(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", noise(20, 20))
    with pytest.raises(InputError, match="needs the side of its tiles; give --tile"):
        pack(tmp_path / "m.tif", tmp_path / "out", settings=PackSettings(reader="montage"))


def test_a_broken_montage_does_not_stop_the_others(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(20, 25))
    tifffile.imwrite(tmp_path / "b.tif", noise(20, 20))
    report = pack(tmp_path, tmp_path / "out", settings=PackSettings(tile=10), jobs=2)
    assert (report.packed, report.rejected) == (4, 1)


def test_real_montages_of_two_channels(tmp_path, real_cells):
    settings = PackSettings(tile=40, channels=("Ch3_*.tif", "Ch6_*.tif"))
    report = pack(real_cells / "jurkat-ifc", tmp_path / "out", settings=settings, jobs=2)
    cellset = CellSet.open(tmp_path / "out")
    counts = cellset.cells["label"].value_counts().to_dict()
    assert counts == {
        "G1": 900,
        "G2": 900,
        "S_phase": 900,
        "Prophase": 606,
        "Metaphase": 69,
        "Telophase": 28,
        "Anaphase": 16,
    }
    assert report.packed + report.dropped_padding == 7 * 900
    assert (cellset.images.dtype, cellset.info.bit_depth) == (np.uint16, 12)
    pixels = tifffile.imread(real_cells / "jurkat-ifc" / "G1" / "Ch6_CP0008.tif")
    row = int(np.flatnonzero([identity.endswith(":G1/Ch3_CP0008.tif#31") for identity in cellset.ids])[0])
    np.testing.assert_array_equal(cellset.images[row, 1], pixels[40:80, 40:80])
