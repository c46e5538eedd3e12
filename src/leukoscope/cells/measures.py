from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy import ndimage

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.field import distance
from leukoscope.cells.inorder import in_order
from leukoscope.cells.measuring.detail import detail
from leukoscope.cells.measuring.ground import Ground
from leukoscope.cells.measuring.shape import aside, cut, found, grown, second
from leukoscope.common.errors import InputError
from leukoscope.common.machine import cpus
from leukoscope.common.progress import progress

MEASURES = (
    "foreground", "saturated", "white", "detail", "sharpness", "cut", "aside", "second", "beside", "area", "noise",
)  # fmt: skip
_GRID = 64
_SMALLEST = 12
_CHUNK_VALUES = 2**20
_MOST_CELLS = 64
_NEARLY = 0.01
_FOREGROUND = 0.75
_REGION = 0.5
_MIDDLE = 0.35
_MARGIN = 2


def measure(cellset: CellSet, *, jobs: int = 0) -> pd.DataFrame:
    """Physical measures of every cell from its raw pixels: a row a cell, in order, indexed by ``cell_id``.

    A cell's row depends on its pixels and the bit depth alone. All are finite numbers:

    - ``foreground``: contrast of the middle, in deviations of the background (three quarters of a disc lie below it);
    - ``saturated``: share of the cell's inner pixels at the camera's white (within 1 %), in the worst channel; black is
      none: a dark field is black where nothing glows;
    - ``white``: share of all pixels at the camera's white, over all channels. A smear's background may be white in
      every image, so what is too much must be learned;
    - ``detail``, ``sharpness``: finest and fine structure for coarser one, as logarithms, low out of focus: see
      :func:`~leukoscope.cells.measuring.detail.detail`;
    - ``cut``: share of the cell's outline that lies on the border;
    - ``aside``: how far the middle of what stands out is from the field's, 1 at a side's middle;
    - ``second``, ``beside``: radius of a second disc within the cell and beside it, for the first disc's of 1;
    - ``area``: share of the field, with a margin of a pixel or two;
    - ``noise``: deviation from pixel to pixel of the background, for the camera's white of 1, in the worst channel.

    Images of 128 pixels and more are averaged over whole pixels to 64 to 127 first, but for ``saturated`` and
    ``white``.

    Args:
        cellset: cells of any channels, 8 to 16 bits, of 24 pixels or more.
        jobs: threads; 0 takes one a core.

    Raises:
        InputError: when the images have fewer than 12 pixels a side.
    """
    info = cellset.info
    if min(info.height, info.width) < _SMALLEST:
        raise InputError(
            f"{cellset.path}: images of {info.height} x {info.width} pixels are too small to measure; "
            f"{_SMALLEST} at least"
        )
    values = len(info.channels) * info.height * info.width
    work = partial(_measured, cellset, 2.0**info.bit_depth - 1)
    tables = []
    with progress("measuring", len(cellset)) as advance:
        chunk = max(1, min(_MOST_CELLS, _CHUNK_VALUES // values))
        for count, table in in_order(work, range(len(cellset)), jobs=jobs or cpus(), weight=lambda _: 1, chunk=chunk):
            tables.append(table)
            advance(count)
    table = np.concatenate(tables) if tables else np.empty((0, len(MEASURES)))
    return pd.DataFrame(table, columns=list(MEASURES), index=pd.Index(cellset.ids, name="cell_id"))


def _measured(cellset: CellSet, white: float, rows: Sequence[int]) -> np.ndarray:
    return measures_of(cellset.read(rows), white)


def measures_of(pixels: np.ndarray, white: float) -> np.ndarray:
    """:data:`MEASURES` ``(n, 11)`` float64 of images ``(n, C, H, W)`` of a camera with this highest value."""
    reduced = _reduced(pixels)
    height, width = reduced.shape[2:]
    ground = Ground.of(reduced)
    signed = (reduced - ground.level) / ground.spread[:, :, None, None]
    blur = max(1.0, min(height, width) / 80)
    unlike = np.sqrt(ndimage.gaussian_filter((signed**2).mean(axis=1), (0, blur, blur), truncate=3))
    cell, everything = found(unlike)
    away = distance(height, width)
    shown = cell.reshape(len(cell), -1).any(axis=1)
    region = np.where(np.asarray(shown)[:, None, None], grown(cell, _MARGIN), away <= _REGION)
    at_white: np.ndarray = np.asarray(pixels >= white * (1 - _NEARLY))
    inner = ~grown(~cell, _MARGIN)
    fine, coarse = detail(signed, ground.noise / ground.spread, region)
    own, others = second(cell, everything)
    columns = {
        "foreground": np.quantile(unlike[:, away <= _MIDDLE], _FOREGROUND, axis=1),
        "saturated": _share_within(_reduced(at_white), inner),
        "white": at_white.mean(axis=(1, 2, 3)),
        "detail": fine,
        "sharpness": coarse,
        "cut": cut(cell),
        "aside": aside(unlike),
        "second": own,
        "beside": others,
        "area": cell.mean(axis=(1, 2)),
        "noise": ground.noise.max(axis=1) / white,
    }
    return np.column_stack([columns[name] for name in MEASURES]).astype(np.float64)


def _reduced(pixels: np.ndarray) -> np.ndarray:
    """Float32 images averaged over whole pixels, so that their shorter side is 64 to 127; smaller ones as they are."""
    n, channels, height, width = pixels.shape
    factor = max(1, min(height, width) // _GRID)
    if factor == 1:
        return pixels.astype(np.float32)
    height, width = height // factor, width // factor
    kept = pixels[:, :, : height * factor, : width * factor]
    reduced: np.ndarray = kept.reshape(n, channels, height, factor, width, factor).mean(axis=(3, 5), dtype=np.float32)
    return reduced


def _share_within(planes: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """The mean ``(n,)`` of ``(n, C, H, W)`` within the cell ``(n, H, W)``, of the channel where it is highest."""
    inside = np.einsum("nchw,nhw->nc", planes, cell.astype(np.float32))
    share: np.ndarray = (inside / np.maximum(cell.sum(axis=(1, 2)), 1)[:, None]).max(axis=1)
    return share
