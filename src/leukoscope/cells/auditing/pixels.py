from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from leukoscope.cells.auditing.finding import Finding, first_examples
from leukoscope.cells.auditing.perceptual import perceptual_hash
from leukoscope.cells.cellset import CellSet
from leukoscope.common.progress import progress

# A quarter of the pixels at an end of the range: more than any halo or dark granule covers.
SATURATED_SHARE = 0.25
_BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class PixelFacts:
    """What one pass over a set's pixels tells of each cell."""

    constant: np.ndarray  # (N,) bool: every channel has one value
    saturated: np.ndarray  # (N,) bool
    hashes: np.ndarray | None  # (N, words) uint64


def scan(cellset: CellSet, *, hashes: bool) -> PixelFacts:
    """Read the set once, a block at a time; memory does not grow with the number of pixels."""
    constant = np.zeros(len(cellset), bool)
    saturated = np.zeros(len(cellset), bool)
    found: list[np.ndarray] = []
    top = 2**cellset.info.bit_depth - 1
    with progress("auditing pixels", len(cellset)) as advance:
        for rows in _blocks(cellset):
            pixels = cellset.read(rows)
            flat = pixels.reshape(*pixels.shape[:2], -1)
            low, high = flat.min(axis=2), flat.max(axis=2)
            constant[rows] = (low == high).all(axis=1)
            saturated[rows] = ~constant[rows] & _saturated(flat, low, high, top)
            if hashes:
                found.append(perceptual_hash(cellset.info.intensity.scale(pixels).mean(axis=1)))
            advance(len(pixels))
    return PixelFacts(constant, saturated, np.concatenate(found) if found else None)


def pixel_findings(cellset: CellSet, facts: PixelFacts) -> list[Finding]:
    """Constant and saturated images of one set."""
    ends = f"an end of the {cellset.info.bit_depth}-bit range"
    kinds: Sequence[tuple[str, np.ndarray, str]] = (
        ("constant images", facts.constant, "every pixel of a channel has the same value; nothing can be learnt"),
        ("saturated images", facts.saturated, f"{SATURATED_SHARE:.0%} or more of a channel's pixels are at {ends}"),
    )
    return [
        Finding(name, "warns", str(cellset.path), int(hit.sum()), detail, first_examples([i] for i in cellset.ids[hit]))
        for name, hit, detail in kinds
        if hit.any()
    ]


def _blocks(cellset: CellSet) -> Iterator[slice]:
    info = cellset.info
    bytes_a_cell = cellset.channels * info.height * info.width * np.dtype(info.dtype).itemsize
    step = max(1, _BLOCK_BYTES // bytes_a_cell)
    for start in range(0, len(cellset), step):
        yield slice(start, min(start + step, len(cellset)))


def _saturated(flat: np.ndarray, low: np.ndarray, high: np.ndarray, top: int) -> np.ndarray:
    """Which images ``(n,)`` have a channel with too many pixels at 0 or at ``top``."""
    hit = np.zeros(len(flat), bool)
    # Only images that reach an end are counted: most do not.
    for end, reached in ((0, low == 0), (top, high >= top)):
        near = np.flatnonzero(reached.any(axis=1))
        share = ((flat[near] <= 0) if end == 0 else (flat[near] >= top)).mean(axis=2)
        hit[near] |= (share >= SATURATED_SHARE).any(axis=1)
    return hit
