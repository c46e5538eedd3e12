import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import ndimage

from leukoscope.cells.datasets.listing import Download, Listed, Listing, some
from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.frames import open_frames


class Masks(Listed):
    """Fields of view with a mask image each; each cell becomes a crop around the centroid of its pixels.

    Attributes:
        pattern: regular expression that fits the paths of the masks; its named groups become columns.
        image: path of a mask's field, from the mask's folder, with the groups in braces.
        cells: what a mask holds: ``regions``, where connected pixels other than zero are a cell, whatever their
            values; or ``numbers``, where each value is a cell (and connected pixels are, if there is one value only).
        border: pixels by which a mask is smaller than its field on each side.
        least: area in pixels below which a region is dirt.
    """

    kind: Literal["masks"] = "masks"
    pattern: str
    image: str
    cells: Literal["regions", "numbers"]
    border: int = 0
    least: int = 1

    def listing(self, copy: Download) -> Listing:
        """One row a cell, in the order of the masks and of the cells in them."""
        pattern = re.compile(self.pattern)
        rows: list[dict[str, Any]] = []
        used: list[str] = []
        broken: list[str] = []
        small: list[str] = []
        for source in copy.images:
            if (match := pattern.search(source)) is None:
                continue
            used.append(source)
            groups = {name: text for name, text in match.groupdict().items() if text}
            field = posixpath.normpath(posixpath.join(posixpath.dirname(source), self.image.format_map(groups)))
            columns = {name: text for name, text in groups.items() if not name.startswith("_")}
            try:
                mask = _mask(copy.root / source)
            # Decoders raise whatever they like on broken bytes.
            except Exception:
                broken.append(source)
                continue
            for y, x, area in _cells(mask, self.cells):
                if area < self.least:
                    small.append(source)
                    continue
                rows.append({"path": field, "x": x + self.border, "y": y + self.border, **columns, "mask_area": area})
        lines = (*some(broken, "masks cannot be read"), *some(small, f"regions under {self.least} pixels in masks"))
        return Listing(pd.DataFrame(rows), helpers=used, left_out=lines)


def _mask(path: Path) -> np.ndarray:
    """The mask ``(H, W)``; of several channels the brightest, since some masks are stored as RGB."""
    settings = PackSettings()
    frames = open_frames([path], settings)
    try:
        pixels: np.ndarray = frames.picture(0, settings.sheet_limit).pixels.max(axis=0)
    finally:
        frames.close()
    return pixels


def _cells(mask: np.ndarray, what: str) -> Iterator[tuple[float, float, int]]:
    """Centroid (y, x) and area of each cell of a mask ``(H, W)``."""
    values = np.unique(mask[mask > 0])
    parts = ndimage.label(mask > 0)[0] if what == "regions" or len(values) == 1 else mask
    for number in np.unique(parts[parts > 0]):
        y, x = np.nonzero(parts == number)
        yield float(y.mean()), float(x.mean()), len(y)
