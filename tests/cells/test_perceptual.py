import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from leukoscope.cells.auditing.perceptual import near_pairs, perceptual_hash


@pytest.mark.parametrize("side", [8, 16])
@pytest.mark.parametrize("shape", [(160, 160), (97, 230), (40, 40)])
def test_the_hash_is_that_of_imagehash(side: int, shape: tuple[int, int]) -> None:
    imagehash = pytest.importorskip("imagehash")
    rng = np.random.default_rng(0)
    texture = gaussian_filter(rng.standard_normal((30, *shape)), (0, 1, 1))
    images = (255 * (texture - texture.min()) / np.ptp(texture)).astype(np.uint8)
    ours = np.unpackbits(perceptual_hash(images, side).view(np.uint8), axis=1)
    theirs = np.stack([imagehash.phash(Image.fromarray(image), hash_size=side).hash.ravel() for image in images])
    # Pillow rounds to 8 bits after each axis, which turns a bit that lies at the median.
    assert (ours != theirs).sum(axis=1).max() <= 4
    assert (ours != theirs).mean() < 0.01


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), distance=st.integers(0, 12))
def test_every_near_pair_is_found_as_by_comparing_all(seed: int, distance: int) -> None:
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (60, 256), np.uint8)
    for row in range(30, 60):
        bits[row] = bits[rng.integers(0, 30)]
        flipped = rng.choice(256, rng.integers(0, 16), replace=False)
        bits[row, flipped] ^= 1
    hashes = np.packbits(bits, axis=1).view(np.uint64)
    apart = (bits[:, None] != bits[None]).sum(axis=2)
    pairs = {tuple(pair) for pair in near_pairs(hashes, distance)}
    assert all(apart[pair] <= distance and pair[0] < pair[1] for pair in pairs)
    # Rows of equal hash are one, so the pairs are compared between distinct hashes.
    name = np.unique(hashes, axis=0, return_inverse=True)[1].ravel()
    expected = {
        (min(name[a], name[b]), max(name[a], name[b])) for a, b in zip(*np.nonzero(apart <= distance), strict=True)
    }
    assert {(min(name[a], name[b]), max(name[a], name[b])) for a, b in pairs} - {(n, n) for n in name} == {
        pair for pair in expected if pair[0] != pair[1]
    }
    repeated = sum(count - 1 for count in np.unique(name, return_counts=True)[1])
    assert sum(name[a] == name[b] for a, b in pairs) == repeated


def test_many_equal_hashes_stay_few_pairs() -> None:
    assert len(near_pairs(np.zeros((5000, 4), np.uint64))) == 4999
    assert near_pairs(np.empty((0, 4), np.uint64)).shape == (0, 2)
