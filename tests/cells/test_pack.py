import json
import os
import signal
import subprocess
import sys
import time

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from leukoscope.cells.cellset import CellSet, Origin
from leukoscope.cells.pack import PackSettings, pack
from leukoscope.common.errors import InputError


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(pixels))


def as_rgb(pixels):
    return np.repeat(pixels[..., None], 3, axis=-1)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_grey_stored_as_rgb_becomes_one_channel(tmp_path):
    for k in range(5):
        pixels = noise(16, 16, seed=k)
        save(tmp_path / "rgb" / f"{k}.png", as_rgb(pixels))
        save(tmp_path / "grey" / f"{k}.png", pixels)
    pack(tmp_path / "rgb", tmp_path / "a")
    pack(tmp_path / "grey", tmp_path / "b")
    assert CellSet.open(tmp_path / "a").info.channels == ("grey",)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("colour_at", [0, 3, 599])
def test_one_image_with_colour_keeps_the_whole_set_rgb(tmp_path, colour_at):
    for k in range(600):
        pixels = noise(8, 8, 3, seed=k) if k == colour_at else as_rgb(noise(8, 8, seed=k))
        save(tmp_path / "in" / f"{k:03d}.png", pixels)
    pack(tmp_path / "in", tmp_path / "out")
    cellset = CellSet.open(tmp_path / "out")
    assert cellset.info.channels == ("red", "green", "blue")
    for k in (0, 3, 300, 599):
        expected = noise(8, 8, 3, seed=k) if k == colour_at else as_rgb(noise(8, 8, seed=k))
        np.testing.assert_array_equal(cellset.images[k], expected.transpose(2, 0, 1))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "cells.parquet",
        "cellset.json",
        "images.npy",
        "rejected.csv",
    ]
    np.testing.assert_allclose(cellset.info.mean, (cellset.images / 255).mean(axis=(0, 2, 3)))


def test_16_bit_values_and_depth_are_kept(tmp_path):
    stack = noise(4, 20, 20, dtype=np.uint16) >> 4
    for k, pixels in enumerate(stack[:2]):
        save(tmp_path / "in" / f"{k}.png", pixels)
    for k, pixels in enumerate(stack[2:], 2):
        tifffile.imwrite(tmp_path / "in" / f"{k}.tif", pixels)
    report = pack(tmp_path / "in", tmp_path / "out")
    cellset = CellSet.open(tmp_path / "out")
    np.testing.assert_array_equal(cellset.images[:, 0], stack)
    assert (report.info.bit_depth, report.info.intensity.high) == (12, (4095.0,))


def test_8_bit_only_when_asked(tmp_path):
    pixels = noise(20, 20, dtype=np.uint16) >> 4
    pixels[0, :2] = 0, 4095
    save(tmp_path / "in" / "0.png", pixels)
    pack(tmp_path / "in", tmp_path / "out", settings=PackSettings(to_8_bit=True, bit_depth=12))
    cellset = CellSet.open(tmp_path / "out")
    assert (cellset.images.dtype, cellset.info.bit_depth) == (np.uint8, 8)
    np.testing.assert_array_equal(cellset.images[0, 0], np.rint(pixels / 4095 * 255))
    with pytest.raises(InputError, match=r"to_8_bit needs bit_depth"):
        PackSettings.parse({"to_8_bit": True}, where="pack")


def test_pixels_brighter_than_the_camera_are_set_aside(tmp_path):
    save(tmp_path / "in" / "0.png", noise(20, 20, dtype=np.uint16) >> 4)
    save(tmp_path / "in" / "1.png", noise(20, 20, dtype=np.uint16))
    report = pack(tmp_path / "in", tmp_path / "out", settings=PackSettings(bit_depth=12))
    assert (report.packed, report.rejected) == (1, 1)
    assert "is over 12 bits; check --bit-depth" in next(iter(report.reasons))


def test_more_bits_than_8_bit_pixels_can_have_are_refused(tmp_path):
    save(tmp_path / "in" / "0.png", noise(20, 20))
    with pytest.raises(InputError, match=r"8-bit pixels, which --bit-depth 12 would turn nearly black; leave it out"):
        pack(tmp_path / "in", tmp_path / "out", settings=PackSettings(bit_depth=12))
    pack(tmp_path / "in", tmp_path / "out", settings=PackSettings(bit_depth=12, to_8_bit=True))
    np.testing.assert_array_equal(CellSet.open(tmp_path / "out").images[0, 0], noise(20, 20))


def test_depths_are_not_mixed(tmp_path):
    save(tmp_path / "in" / "0.png", noise(20, 20))
    save(tmp_path / "in" / "1.png", noise(20, 20, dtype=np.uint16))
    report = pack(tmp_path / "in", tmp_path / "out")
    assert (report.packed, list(report.reasons)) == (
        1,
        ["uint16 pixels in a set of uint8; pack them apart, or give --to-8-bit"],
    )


def test_intensity_by_percentile_of_the_whole_set(tmp_path):
    stack = noise(6, 30, 30, dtype=np.uint16) >> 8
    tifffile.imwrite(tmp_path / "x.tif", stack, photometric="minisblack")
    settings = PackSettings(intensity="percentile", percentiles=(1, 99), pixel_size_um=0.5)
    info = pack(tmp_path / "x.tif", tmp_path / "out", settings=settings).info
    low, high = np.percentile(stack, [1, 99])
    assert info.intensity.rule == "percentile"
    assert info.intensity.low[0] == pytest.approx(low, abs=1)
    assert info.intensity.high[0] == pytest.approx(high, abs=1)
    assert info.pixel_size_um == 0.5


def mixed_sizes(folder, count=40):
    for k in range(count):
        save(folder / f"{k:02d}.png", noise(20 + k % 3, 24 - k % 5, seed=k))
    return folder


@pytest.mark.parametrize(("rule", "side"), [("pad", 24), ("crop", 20), ("resize", 24)])
def test_a_rule_without_a_size_takes_one_that_holds_for_all(tmp_path, rule, side):
    report = pack(mixed_sizes(tmp_path / "in"), tmp_path / "out", settings=PackSettings(fit=rule))
    assert (report.packed, report.info.height, report.info.width) == (40, side, side)
    assert report.info.packing == {"reader": "images", "fit": rule, "size": side}


def test_a_size_alone_resizes(tmp_path):
    report = pack(mixed_sizes(tmp_path / "in"), tmp_path / "out", settings=PackSettings(size=12))
    assert (report.packed, report.info.packing["fit"], report.info.width) == (40, "resize", 12)


def test_mixed_sizes_without_a_rule_end_with_advice(tmp_path):
    with pytest.raises(
        InputError, match=r"21 images do not fit the set .* pixels in a set of 24x20; name a rule with --fit"
    ):
        pack(mixed_sizes(tmp_path / "in", 100), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_few_odd_sizes_are_set_aside(tmp_path):
    for k in range(30):
        save(tmp_path / "in" / f"{k:02d}.png", noise(20, 20 + 4 * (k in (7, 9)), seed=k))
    report = pack(tmp_path / "in", tmp_path / "out")
    assert report.reasons == {"24x20 pixels in a set of 20x20; name a rule with --fit": 2}


def test_the_middle_is_kept_first(tmp_path):
    pixels = noise(30, 40)
    save(tmp_path / "in" / "0.png", pixels)
    pack(tmp_path / "in", tmp_path / "out", settings=PackSettings(centre=10))
    np.testing.assert_array_equal(CellSet.open(tmp_path / "out").images[0, 0], pixels[10:20, 15:25])


def test_the_same_source_gives_the_same_bytes_whatever_the_jobs(tmp_path):
    for k in range(100):
        pixels = noise(12, 12, 3, seed=k) if k % 7 == 3 else as_rgb(noise(12 + (k == 50), 12, seed=k))
        save(tmp_path / "in" / str(k % 3) / f"{k}.png", pixels)
    (tmp_path / "in" / "0" / "x.png").touch()
    pack(tmp_path / "in", tmp_path / "one", jobs=1)
    pack(tmp_path / "in", tmp_path / "five", jobs=5)
    assert contents(tmp_path / "one") == contents(tmp_path / "five")


def test_duplicates_are_kept_and_share_their_content_hash(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "in" / f"{name}.png", noise(16, 16))
    pack(tmp_path / "in", tmp_path / "out")
    first, second = CellSet.open(tmp_path / "out").ids
    assert first.split(":")[0] == second.split(":")[0]
    assert first != second


def test_an_existing_folder_is_not_overwritten_unasked(tmp_path):
    save(tmp_path / "in" / "a.png", noise(16, 16))
    pack(tmp_path / "in", tmp_path / "out")
    with pytest.raises(InputError, match="out: exists already; choose another name or give --overwrite"):
        pack(tmp_path / "in", tmp_path / "out")
    pack(tmp_path / "in", tmp_path / "out", overwrite=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fits": "pad"}, "unknown key 'fits'; did you mean 'fit'"),
        ({"channels": ["Ch3.tif"]}, r"'Ch3\.tif' needs exactly one star"),
        ({"columns": ["label"]}, "'label' is not NEW=OLD"),
        ({"from_path": "("}, "not a regular expression"),
        ({"from_path": "abc"}, r"names no column; write a group such as \(\?P<label>"),
        ({"tile": 4, "crop": 4}, "give one of them"),
        ({"bit_depth": 20}, "between 1 and 16"),
        ({"percentiles": [9, 1]}, "percentiles must rise"),
        ({"tile": 0}, "must be at least 1"),
    ],
)
def test_settings_that_cannot_be_meant(settings, message):
    with pytest.raises(InputError, match=message):
        PackSettings.parse(settings, where="pack")


def test_unknown_sources(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        pack(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "x.docx").touch()
    with pytest.raises(InputError, match="of a kind that no reader knows; name one with --reader"):
        pack(tmp_path / "x.docx", tmp_path / "out")
    with pytest.raises(InputError, match="--reader pictures: unknown; the readers are"):
        pack(tmp_path, tmp_path / "out", settings=PackSettings(reader="pictures"))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("in", {"agree": 2}, "--agree: the reader images has no use for it; it is for fields, manifest"),
        ("in", {"columns": ("a=b",)}, "--column: the reader images has no use for it"),
        ("x.npz", {"tile": 40}, "--tile: the reader npz has no use for it; it is for montage"),
    ],
)
def test_options_that_a_reader_would_pass_over_are_refused(tmp_path, name, settings, message):
    save(tmp_path / "in" / "a.png", noise(20, 20))
    np.savez(tmp_path / "x.npz", train_images=noise(2, 8, 8))
    with pytest.raises(InputError, match=message):
        pack(tmp_path / name, tmp_path / "out", settings=PackSettings(**settings))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    save(tmp_path / "in" / "a.png", noise(20, 20))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/out: cannot be written \(Not a directory\)"):
        pack(tmp_path / "in", tmp_path / "file" / "out")


def test_a_set_of_two_kinds_ends_with_the_reason(tmp_path):
    save(tmp_path / "in" / "000.png", noise(20, 20, dtype=np.uint16))
    for k in range(1, 40):
        save(tmp_path / "in" / f"{k:03d}.png", noise(20, 20, seed=k))
    with pytest.raises(InputError, match=r"21 images do not fit .*: uint8 pixels in a set of uint16; pack them apart"):
        pack(tmp_path / "in", tmp_path / "out")


def test_bombs_are_set_aside_and_the_limit_can_be_raised(tmp_path):
    save(tmp_path / "in" / "a.png", noise(20, 20))
    save(tmp_path / "in" / "b.png", np.pad(noise(20, 20), 40))
    report = pack(tmp_path / "in", tmp_path / "out", settings=PackSettings(max_pixels=1000))
    assert (report.packed, report.rejected) == (1, 1)
    settings = PackSettings(max_pixels=100_000, fit="crop")
    assert pack(tmp_path / "in", tmp_path / "all", settings=settings).packed == 2


def test_pillows_own_limit_is_restored(tmp_path):
    save(tmp_path / "in" / "a.png", noise(20, 20))
    before = Image.MAX_IMAGE_PIXELS
    pack(tmp_path / "in", tmp_path / "out")
    assert before == Image.MAX_IMAGE_PIXELS


PACK = """
import sys
from pathlib import Path
from leukoscope.cells.pack import pack
pack(Path(sys.argv[1]), Path(sys.argv[2]), jobs=2)
"""


def test_killed_at_any_moment_it_leaves_nothing_that_looks_whole_and_a_second_run_finishes(tmp_path):
    stack = noise(600, 100, 100)
    (tmp_path / "in").mkdir()
    for k in range(5):
        tifffile.imwrite(tmp_path / "in" / f"{k}.tif", stack, photometric="minisblack", compression="zlib")
    command = [sys.executable, "-c", PACK, str(tmp_path / "in"), str(tmp_path / "out")]
    partial = tmp_path / ".out.partial" / "images.npy"
    for least in (0, 4_000_000):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (partial.exists() and partial.stat().st_size > least):
            time.sleep(0.01)
        assert process.poll() is None, "packing ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "out").exists()
        assert partial.exists()
        with pytest.raises(InputError, match="not a CellSet"):
            CellSet.open(partial.parent)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert len(CellSet.open(tmp_path / "out")) == 3000
    assert not partial.parent.exists()


PEAK = """
import resource, sys
from pathlib import Path
from leukoscope.cells.pack import pack
pack(Path(sys.argv[1]), Path(sys.argv[2]), jobs=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_is_flat(tmp_path):
    peaks = []
    for count in (300, 3000):
        with tifffile.TiffWriter(tmp_path / f"{count}.tif") as writer:
            for k in range(count):
                writer.write(noise(200, 200, seed=k % 7), metadata=None, contiguous=False)
        command = [sys.executable, "-c", PEAK, str(tmp_path / f"{count}.tif"), str(tmp_path / f"{count}.set")]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    # The longer stack holds 108 MB more.
    assert peaks[1] - peaks[0] < 40


def test_the_licence_and_the_citation_of_a_published_set_travel_with_its_cells(tmp_path):
    save(tmp_path / "in" / "a.png", noise(8, 8))
    origin = Origin(dataset="atlas", title="An atlas", licence="CC BY 4.0", citation=("A. 2020",), page="https://a.org")
    pack(tmp_path / "in", tmp_path / "out", origin=origin)
    assert CellSet.open(tmp_path / "out").info.origin == origin


def test_a_cellset_from_before_origins_were_kept_still_opens(tmp_path):
    save(tmp_path / "in" / "a.png", noise(8, 8))
    pack(tmp_path / "in", tmp_path / "out")
    path = tmp_path / "out" / "cellset.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "origin"}))
    assert CellSet.open(tmp_path / "out").info.origin is None
