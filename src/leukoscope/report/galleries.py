from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from leukoscope.cells.cellset import CellSet
from leukoscope.report.drawing import data_address, figure, keep, png, slug
from leukoscope.report.evaluation import Evaluation, Pair

_LARGEST = 80  # pixels a channel: larger cells are shrunk, all by one factor
_SMALLEST_SHOWN = 72  # CSS pixels: smaller cells are enlarged, all by one whole factor
_MOST_CELLS = 128
_GAP = 2


@dataclass(frozen=True)
class Thumbnail:
    """One cell for the page, with what was true and what was said; ``width`` and ``height`` in CSS pixels."""

    src: str
    width: int
    height: int
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class ClassGallery:
    """Cells of one class that were recognised, and cells of it that were not."""

    name: str
    n_right: int
    n_wrong: int
    right: list[Thumbnail]
    wrong: list[Thumbnail]


@dataclass(frozen=True)
class Magnification:
    """How pixels of a CellSet become pixels of the page: one rule for all of its cells."""

    side: int  # pixels of the longer side of one channel after shrinking
    zoom: int  # CSS pixels a pixel
    original: int
    pixel_size_um: float | None

    @classmethod
    def of(cls, cellset: CellSet, *, enlarged: int = 1) -> "Magnification":
        """The rule for the cells of ``cellset``, so many times as large as on a page of many.

        A pixel stands on a whole number of the page's: images that were shrunk are shrunk less before they are
        enlarged.
        """
        original = max(cellset.info.height, cellset.info.width)
        side = min(original, _LARGEST * enlarged)
        shown = enlarged * (_LARGEST if original > _LARGEST else side * max(1, -(-_SMALLEST_SHOWN // side)))
        return cls(side, shown // side, original, cellset.info.pixel_size_um)

    @property
    def bar(self) -> tuple[int, float] | None:
        """A scale bar as (CSS pixels, micrometres), at least 20 pixels; None where the pixel size is unknown."""
        if self.pixel_size_um is None:
            return None
        um_per_css_pixel = self.pixel_size_um * self.original / (self.side * self.zoom)
        length = next((um for um in (1, 2, 5, 10, 20, 50) if um / um_per_css_pixel > 20), 100)
        return round(length / um_per_css_pixel), float(length)

    @property
    def words(self) -> str:
        """The magnification as a sentence."""
        if self.side < self.original:
            return f"All cells are shrunk by one factor, {self.original} to {self.side} pixels."
        return f"All cells stand at one scale: an image pixel is {self.zoom} pixel{'s' * (self.zoom > 1)} of the page."


def draw_galleries(
    evaluation: Evaluation, pair: Pair, cellset: CellSet, folder: Path, *, seed: int
) -> list[ClassGallery]:
    """Galleries of every class: right answers drawn at random, wrong ones with the most certain first.

    Each class is also written into ``folder`` as one sheet. Empty where ``cellset`` holds none of the cells.
    """
    cells = evaluation.of_cells(pair)
    cells["row"] = pd.Series(np.arange(len(cellset)), index=cellset.ids).reindex(cells["cell_id"]).to_numpy()
    cells = cells.dropna(subset=["row"])
    if cells.empty:
        return []
    each = int(np.clip(_MOST_CELLS // (2 * len(evaluation.classes)), 4, 8))
    random = np.random.default_rng(seed)
    galleries = []
    for name in evaluation.classes:
        of_class = cells[cells["label"] == name]
        hit = of_class["predicted"] == name
        right, wrong = of_class[hit], of_class[~hit].sort_values("probability", ascending=False, kind="stable")
        sample = right.iloc[np.sort(random.permutation(len(right))[:each])]
        gallery = ClassGallery(
            name, len(right), len(wrong), _thumbnails(sample, cellset), _thumbnails(wrong.head(each), cellset)
        )
        _sheet(pd.concat([sample, wrong.head(each)]), len(sample), cellset, folder, name)
        galleries.append(gallery)
    return galleries


def visible(pixels: np.ndarray, cellset: CellSet, *, shrink: bool = True, enlarged: int = 1) -> np.ndarray:
    """Pixels ``(C, H, W)`` as the eye gets them: uint8 ``(h, w)`` or ``(h, w, 3)``.

    Contrast follows the set's intensity rule, never the single image. Three channels are taken for red, green and
    blue; any other number stands side by side, each in grey. Large cells are shrunk for the page, where they are not to
    be shown ``enlarged``, unless ``shrink`` is false.
    """
    magnification = Magnification.of(cellset, enlarged=enlarged)
    side = magnification.side if shrink else magnification.original
    channels = [_shrunk(channel, side) for channel in cellset.info.intensity.scale(pixels)]
    if len(channels) == 3:
        joined = np.stack(channels, axis=-1)
    else:
        gap = np.ones((channels[0].shape[0], _GAP), np.float32)
        joined = np.concatenate([part for channel in channels for part in (channel, gap)][:-1], axis=1)
    rounded: np.ndarray = (joined * 255 + 0.5).astype(np.uint8)
    return rounded


def _shrunk(channel: np.ndarray, side: int) -> np.ndarray:
    height, width = channel.shape
    factor = side / max(height, width)
    if factor >= 1:
        return channel
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    resized = Image.fromarray(channel).resize(size, Image.Resampling.BOX)
    return np.asarray(resized, dtype=np.float32).clip(0.0, 1.0)


def thumbnail(pixels: np.ndarray, cellset: CellSet) -> tuple[str, int, int]:
    """A cell ``(C, H, W)`` for the page: its address, and its width and height in CSS pixels."""
    image = visible(pixels, cellset)
    zoom = Magnification.of(cellset).zoom
    return data_address(png(image), "png"), image.shape[1] * zoom, image.shape[0] * zoom


def _thumbnails(cells: pd.DataFrame, cellset: CellSet) -> list[Thumbnail]:
    return [
        Thumbnail(*thumbnail(pixels, cellset), cell["label"], cell["predicted"], float(cell["probability"]))
        for cell, pixels in zip(cells.to_dict("records"), _pixels(cells, cellset), strict=True)
    ]


def _pixels(cells: pd.DataFrame, cellset: CellSet) -> np.ndarray:
    return cellset.read(cells["row"].to_numpy(dtype=np.int64))


def _sheet(cells: pd.DataFrame, n_right: int, cellset: CellSet, folder: Path, name: str) -> None:
    """Right cells in the upper row, wrong ones below, as a figure of its own beside the page."""
    if cells.empty:
        return
    images = [visible(pixels, cellset) for pixels in _pixels(cells, cellset)]
    rows = [images[:n_right], images[n_right:]]
    rows = [row for row in rows if row]
    texts = [f"{cell.label} → {cell.predicted}\n{cell.probability:.2f}" for cell in cells.itertuples()]
    height, width = images[0].shape[:2]
    across = max(len(row) for row in rows)
    caption_room = 0.3
    inches = (0.85 * width / height * across, len(rows) * (0.85 + caption_room))
    with figure(*inches) as drawn:
        drawn.set_layout_engine("none")
        axes = drawn.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, across), ylim=(len(rows), 0))
        axes.set_axis_off()
        share = 0.85 / (0.85 + caption_room)
        for row, shown in enumerate(rows):
            for column, image in enumerate(shown):
                extent = (column + 0.03, column + 0.97, row + share, row + 0.02)
                axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
                text = texts[row * len(rows[0]) + column]
                axes.text(column + 0.5, row + share + 0.02, text, ha="center", va="top", fontsize=5)
        axes.set(xlim=(0, across), ylim=(len(rows), 0))
        keep(drawn, folder, slug("cells", name), alt="", dpi=150)
