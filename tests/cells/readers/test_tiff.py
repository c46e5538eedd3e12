import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
import tifffile

from leukoscope.cells.readers.protocol import GREY, RGB, Unreadable
from leukoscope.cells.readers.tiff import TiffFrames

LIMIT = 1_000_000


def noise(*shape, dtype=np.uint16, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def pictures(path, pages="cells"):
    with closing(TiffFrames(path, pages)) as frames:
        return [frames.picture(index, LIMIT) for index in range(len(frames))]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"metadata": None},
        {"imagej": True},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "lzw"},
        {"tile": (16, 16)},
    ],
    ids=str,
)
def test_every_page_is_a_cell_with_its_exact_values(tmp_path, dtype, how):
    stack = noise(5, 24, 31, dtype=dtype)
    tifffile.imwrite(tmp_path / "x.tif", stack, photometric="minisblack", **how)
    found = pictures(tmp_path / "x.tif")
    assert [picture.channels for picture in found] == [GREY] * 5
    np.testing.assert_array_equal([picture.pixels[0] for picture in found], stack)
    assert found[0].pixels.dtype == dtype


def test_pages_of_different_sizes_keep_their_order(tmp_path):
    pages = [noise(20 + k % 2, 30, seed=k) for k in range(4)]
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        for page in pages:
            writer.write(page, metadata=None)
    for picture, page in zip(pictures(tmp_path / "x.tif"), pages, strict=True):
        np.testing.assert_array_equal(picture.pixels[0], page)


@pytest.mark.parametrize("how", [{"imagej": True}, {"ome": True}], ids=str)
def test_the_channels_of_a_hyperstack_belong_together(tmp_path, how):
    stack = noise(3, 2, 24, 31)
    tifffile.imwrite(tmp_path / "x.tif", stack, metadata={"axes": "TCYX"}, **how)
    found = pictures(tmp_path / "x.tif")
    np.testing.assert_array_equal([picture.pixels for picture in found], stack)
    assert found[0].channels == ("channel 1", "channel 2")


def test_pages_are_channels_when_asked(tmp_path):
    stack = noise(3, 24, 31)
    tifffile.imwrite(tmp_path / "x.tif", stack, photometric="minisblack")
    (picture,) = pictures(tmp_path / "x.tif", "channels")
    np.testing.assert_array_equal(picture.pixels, stack)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour(tmp_path, planar):
    planes = noise(3, 24, 31)
    stored = planes if planar == "separate" else planes.transpose(1, 2, 0)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="rgb", planarconfig=planar)
    (picture,) = pictures(tmp_path / "x.tif")
    assert picture.channels == RGB
    np.testing.assert_array_equal(picture.pixels, planes)


def test_zero_that_means_white_is_turned_round(tmp_path):
    pixels = noise(24, 31, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="miniswhite")
    np.testing.assert_array_equal(pictures(tmp_path / "x.tif")[0].pixels[0], 255 - pixels)


def test_transparent_pixels_are_refused(tmp_path):
    pixels = noise(24, 31, 4, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    with pytest.raises(Unreadable, match="transparent"):
        pictures(tmp_path / "x.tif")


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32, bool])
def test_other_numbers_are_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "x.tif", np.eye(20).astype(dtype))
    with pytest.raises(Unreadable, match="only unsigned 8 and 16 bit"):
        pictures(tmp_path / "x.tif")


def test_absurd_sizes_are_refused_before_decoding(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((2000, 2000), np.uint8), compression="zlib")
    with pytest.raises(Unreadable, match="2000x2000 pixels are over the limit"):
        pictures(tmp_path / "x.tif")


@pytest.mark.parametrize("content", [b"", b"II*", b"no TIFF at all, only text", b"II*\0\xff\xff\xff\x7f" + bytes(8)])
def test_what_is_no_tiff_is_refused(tmp_path, content):
    (tmp_path / "x.tif").write_bytes(content)
    try:
        frames = TiffFrames(tmp_path / "x.tif", "cells")
    except Exception:
        return
    with closing(frames):
        assert frames.broken


def test_pages_lost_to_truncation_are_not_passed_over_in_silence(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", noise(6, 40, 50), metadata=None)
    data = (tmp_path / "x.tif").read_bytes()
    (tmp_path / "x.tif").write_bytes(data[: int(0.7 * len(data))])
    with closing(TiffFrames(tmp_path / "x.tif", "cells")) as frames:
        assert "truncated" in frames.broken


def test_a_list_of_pages_that_runs_in_a_circle_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", noise(20, 30), metadata=None, byteorder="<")
    data = bytearray((tmp_path / "x.tif").read_bytes())
    first = struct.unpack_from("<I", data, 4)[0]
    tags = struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, first + 2 + 12 * tags, first)
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(Unreadable, match="circle"):
        TiffFrames(tmp_path / "x.tif", "cells")


def test_threads_may_share_one_file(tmp_path):
    stack = noise(60, 24, 31)
    tifffile.imwrite(tmp_path / "x.tif", stack, compression="zlib", metadata=None)
    with closing(TiffFrames(tmp_path / "x.tif", "cells")) as frames, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda index: frames.picture(index, LIMIT).pixels[0], list(range(60)) * 3))
    np.testing.assert_array_equal(found, np.concatenate([stack] * 3))
