import contextlib
import io
import random
import warnings

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from leukoscope.cells.pack import PackSettings, pack
from leukoscope.common.errors import InputError


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def image(suffix):
    buffer = io.BytesIO()
    Image.fromarray(noise(40, 40, 3)).save(buffer, suffix)
    return buffer.getvalue()


def tiff(**how):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, noise(4, 40, 40, dtype=np.uint16), photometric="minisblack", **how)
    return buffer.getvalue()


def archive():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, train_images=noise(30, 40, 40), train_labels=noise(30, 1))
    return buffer.getvalue()


def events():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("events/image", data=noise(20, 40, 40), chunks=(5, 40, 40), compression="gzip")
    return buffer.getvalue()


IMAGES = {
    "a.png": image("png"),
    "b.png": imagecodecs.png_encode(noise(40, 40, dtype=np.uint16)),
    "a.jpg": image("jpeg"),
    "a.bmp": image("bmp"),
    "a.webp": image("webp"),
    "a.tif": tiff(),
    "b.tif": tiff(compression="zlib"),
    "c.tif": tiff(compression="lzw", tile=(16, 16)),
    "d.tif": tiff(ome=True),
    "e.tif": tiff(imagej=True),
    "f.tif": tiff(bigtiff=True),
}


def spoiled(data, source):
    """``data`` cut short, or with a few bytes overwritten, often in its header."""
    data = bytearray(data)
    if source.random() < 0.3:
        return bytes(data[: source.randrange(len(data))])
    reach = len(data) if source.random() < 0.5 else min(len(data), 400)
    for _ in range(source.choice([1, 2, 5, 20])):
        data[source.randrange(reach)] = source.choice([0, 255, source.randrange(256)])
    return bytes(data)


@pytest.mark.parametrize(
    "settings",
    [PackSettings(size=32, to_8_bit=True, bit_depth=16), PackSettings(tile=20, to_8_bit=True, bit_depth=16)],
    ids=["images", "montage"],
)
@pytest.mark.parametrize("seed", range(3))
def test_no_broken_image_stops_the_packing(tmp_path, settings, seed):
    source = random.Random(seed)
    (tmp_path / "in").mkdir()
    # All of 8 bit, so that those that are read well enough fit together.
    Image.fromarray(noise(40, 40)).save(tmp_path / "in" / "0.png")
    for name, data in IMAGES.items():
        for k in range(6):
            (tmp_path / "in" / f"{k}-{name}").write_bytes(spoiled(data, source))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = pack(tmp_path / "in", tmp_path / "out", settings=settings, jobs=2)
    assert report.packed >= 1
    assert report.rejected >= 10


@pytest.mark.parametrize(("name", "data"), [("x.npz", archive()), ("x.rtdc", events())], ids=["npz", "rtdc"])
def test_a_broken_archive_is_read_up_to_its_fault_or_refused_in_one_line(tmp_path, name, data):
    source = random.Random(0)
    for _ in range(25):
        (tmp_path / name).write_bytes(spoiled(data, source))
        with contextlib.suppress(InputError):
            assert pack(tmp_path / name, tmp_path / "out", jobs=1, overwrite=True).packed
