from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy import fft

BITS_A_SIDE = 16
MAX_DISTANCE = 10
_OVERSAMPLED = 4
_PAIRS_AT_ONCE = 2**20
_ROWS_AT_ONCE = 2**16


def perceptual_hash(images: np.ndarray, side: int = BITS_A_SIDE) -> np.ndarray:
    """Perceptual hashes ``(n, side**2 / 64)`` uint64 of grey images ``(n, H, W)``.

    The image is resized with Lanczos antialiasing to four times ``side``; a bit says whether one of the ``side**2``
    lowest coefficients of its cosine transform lies above their median (Zauner 2010, "Implementation and benchmarking
    of perceptual image hash functions", as the package ImageHash computes it). It does not see a change of brightness,
    contrast or size, and hardly one of compression or noise; rotated images differ.
    """
    # Resizing and cosine transform are linear: one small matrix does both along an axis. Plain 2-D products are fast.
    count, height, width = images.shape
    across = images.astype(np.float32, copy=False).reshape(-1, width) @ _lowest_cosines(width, side).T
    turned = np.ascontiguousarray(across.reshape(count, height, side).swapaxes(1, 2)).reshape(-1, height)
    coefficients = (turned @ _lowest_cosines(height, side).T).reshape(count, side, side).swapaxes(1, 2)
    flat = coefficients.reshape(count, -1)
    bits = flat > np.median(flat, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)


def near_pairs(hashes: np.ndarray, max_distance: int = MAX_DISTANCE) -> np.ndarray:
    """All pairs ``(P, 2)`` int64, first below second, of rows whose hashes differ in 1 to ``max_distance`` bits.

    Equal hashes are one: only the first row of each distinct hash is paired, also with the rows that equal it. Two
    hashes that differ in at most d bits agree in at least one of d + 1 bands (the pigeonhole principle; Norouzi et al.
    2012, "Fast search in Hamming space with multi-index hashing"), so only rows that share a band are compared.
    """
    distinct, first, which = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    found = [np.empty((0, 2), np.int64)]
    for band in range(max_distance + 1):
        for left, right in _sharing(_band_keys(distinct, band, max_distance + 1)):
            near = _distance(distinct, left, right) <= max_distance
            found.append(np.stack([left[near], right[near]], axis=1))
    pairs = first[np.unique(np.concatenate(found), axis=0)]
    repeats = np.stack([first[which.ravel()], np.arange(len(hashes))], axis=1)
    pairs = np.concatenate([pairs, repeats[repeats[:, 0] != repeats[:, 1]]])
    return np.sort(pairs, axis=1).astype(np.int64)


def _band_keys(hashes: np.ndarray, band: int, bands: int) -> np.ndarray:
    """The bits of one band as a number a row ``(n,)``, for at most 62 bits a band."""
    keys = np.empty(len(hashes), np.int64)
    for start in range(0, len(hashes), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        # Every so-many-th bit: neighbouring coefficients are alike in too many images to tell them apart.
        bits = np.unpackbits(hashes[rows].view(np.uint8), axis=1)[:, band::bands]
        keys[rows] = bits @ (1 << np.arange(bits.shape[1], dtype=np.int64))
    return keys


def _sharing(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every pair of rows with equal keys, in blocks of bounded size."""
    order = np.argsort(keys, kind="stable")
    _, starts, sizes = np.unique(keys[order], return_index=True, return_counts=True)
    # Pairs at a distance of 1, 2, ... places within a run of equal keys: all runs together, one shift at a time.
    place = np.arange(len(order)) - np.repeat(starts, sizes)
    remaining = np.repeat(sizes, sizes) - place
    rows = np.arange(len(order))
    for shift in range(1, int(sizes.max(initial=1))):
        rows = rows[remaining[rows] > shift]
        for start in range(0, len(rows), _PAIRS_AT_ONCE):
            block = rows[start : start + _PAIRS_AT_ONCE]
            yield order[block], order[block + shift]


def _distance(hashes: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    differing = (hashes[left] ^ hashes[right]).view(np.uint8)
    count: np.ndarray = _POPULATION[differing].sum(axis=1)
    return count


_POPULATION = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.uint16)


@lru_cache(maxsize=16)
def _lowest_cosines(length: int, side: int) -> np.ndarray:
    """The matrix ``(side, length)`` that resizes an axis to four times ``side`` and takes its lowest cosines."""
    small = side * _OVERSAMPLED
    lowest: np.ndarray = fft.dct(np.eye(small), axis=0)[:side] @ _lanczos(length, small)
    return lowest.astype(np.float32)


def _lanczos(length: int, small: int) -> np.ndarray:
    """Weights ``(small, length)`` of an antialiased Lanczos resampling with three lobes, as Pillow's."""
    scale = length / small
    width = max(scale, 1.0)
    centre = (np.arange(small) + 0.5) * scale
    offset = (np.arange(length) + 0.5 - centre[:, None]) / width
    weights: np.ndarray = np.where(np.abs(offset) < 3, np.sinc(offset) * np.sinc(offset / 3), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
