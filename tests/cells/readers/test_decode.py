import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from leukoscope.cells.readers.decode import decode_plain, pillow_without_limit
from leukoscope.cells.readers.protocol import GREY, RGB, Unreadable

LIMIT = 1_000_000


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("suffix", ["png", "bmp"])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_lossless_files_give_their_pixels(tmp_path, suffix, shape):
    pixels = noise(*shape)
    Image.fromarray(pixels).save(tmp_path / f"x.{suffix}")
    picture = decode_plain(tmp_path / f"x.{suffix}", LIMIT)
    assert picture.channels == (GREY if len(shape) == 2 else RGB)
    np.testing.assert_array_equal(picture.pixels, np.atleast_3d(pixels).transpose(2, 0, 1))


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_16_bit_png_keeps_every_value(tmp_path, shape):
    pixels = noise(*shape, dtype=np.uint16)
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(pixels))
    picture = decode_plain(tmp_path / "x.png", LIMIT)
    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.pixels, np.atleast_3d(pixels).transpose(2, 0, 1))


def test_jpeg_is_that_of_pillow_and_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "x.jpg", exif=exif)
    with Image.open(tmp_path / "x.jpg") as image:
        expected = np.asarray(image)
    np.testing.assert_array_equal(decode_plain(tmp_path / "x.jpg", LIMIT).pixels, expected.transpose(2, 0, 1))


def test_a_palette_is_looked_up(tmp_path):
    image = Image.fromarray(noise(20, 30, 3)).quantize(16)
    image.save(tmp_path / "x.png")
    picture = decode_plain(tmp_path / "x.png", LIMIT)
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")).transpose(2, 0, 1))


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_goes_only_where_it_is_opaque(tmp_path, colours, dtype):
    pixels = noise(20, 30, colours + 1, dtype=dtype)
    pixels[..., -1] = np.iinfo(dtype).max
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(pixels))
    picture = decode_plain(tmp_path / "x.png", LIMIT)
    np.testing.assert_array_equal(picture.pixels, pixels[..., :-1].transpose(2, 0, 1))
    pixels[0, 0, -1] = 3
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(pixels))
    with pytest.raises(Unreadable, match="transparent"):
        decode_plain(tmp_path / "x.png", LIMIT)


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "jpg"), ("1", "png"), ("1", "bmp")])
def test_modes_that_would_lose_something_are_refused(tmp_path, mode, suffix):
    Image.fromarray(noise(20, 30, 3)).convert(mode).save(tmp_path / f"x.{suffix}")
    with pytest.raises(Unreadable, match=f"{mode} pixels; only grey and RGB"):
        decode_plain(tmp_path / f"x.{suffix}", LIMIT)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_files_raise(tmp_path, suffix, share):
    Image.fromarray(noise(60, 60, 3)).save(tmp_path / f"x.{suffix}")
    data = (tmp_path / f"x.{suffix}").read_bytes()
    (tmp_path / f"x.{suffix}").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(Exception, match=r"truncated|not enough|broken"):
        decode_plain(tmp_path / f"x.{suffix}", LIMIT)


def test_a_truncated_16_bit_png_raises(tmp_path):
    data = imagecodecs.png_encode(noise(60, 60, dtype=np.uint16))
    (tmp_path / "x.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(Exception, match="too small"):
        decode_plain(tmp_path / "x.png", LIMIT)


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty file"), (b"hello, cells", "not an image")])
def test_what_is_no_image_says_so(tmp_path, content, reason):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(Unreadable, match=reason):
        decode_plain(tmp_path / "x.png", LIMIT)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, depth):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, depth, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000)))
    (tmp_path / "bomb.png").write_bytes(bomb + chunk(b"IEND", b""))
    over = "100000x100000 pixels are over the limit of 1000000; raise --max-pixels"
    with pillow_without_limit(), pytest.raises(Unreadable, match=over):
        decode_plain(tmp_path / "bomb.png", LIMIT)
