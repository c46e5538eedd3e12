"""Cells in columns, and below each what encoders make of it: one grid for heat, attention and colours."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from leukoscope.cells.cellset import CellSet
from leukoscope.report.drawing import HAIR, HEAT, INK, Picture, figure, keep_printable
from leukoscope.report.galleries import visible

_WIDTH = 7.2  # inches: the text of an A4 page
_ACROSS = 8
_GAP = 0.05
_TITLE = 0.3
_NOTE = 0.125  # a line
# Shares that are all alike are drawn at a third of the scale: nothing stands out.
_EVEN = 3


@dataclass(frozen=True)
class ShownCells:
    """The cells of a grid: row numbers of ``cellset``, and what stands above each."""

    cellset: CellSet
    rows: np.ndarray
    titles: Sequence[str]


@dataclass(frozen=True)
class Layer:
    """A row of the grid: one picture for each cell.

    ``heat`` ``(n, H, W)`` in [0, 1] lies over the cells, ``shares`` ``(n, h, w)`` are drawn from 0 to the largest of
    each cell or three times its mean, ``colours`` ``(n, h, w, 3)`` in [0, 1] as they are. ``notes`` stand below the
    pictures.
    """

    name: str
    kind: Literal["heat", "shares", "colours"]
    pictures: np.ndarray
    notes: Sequence[str] = ()


def draw_grid(
    shown: ShownCells, layers: Sequence[Layer], folder: Path, name: str, *, alt: str, caption: str
) -> Picture:
    """Draw the cells and their ``layers``, up to eight cells across, as ``name`` into ``folder``."""
    info = shown.cellset.info
    bands = np.array_split(np.arange(len(shown.rows)), -(-len(shown.rows) // _ACROSS))
    names = [_wrapped(layer.name, 18, most=4) for layer in layers]
    margin = 0.15 + 0.065 * max(len(line) for each in names for line in each.split("\n"))
    across = max(4, len(bands[0]))
    side = min((_WIDTH - margin) / across - _GAP, 1.1)
    tall = side * info.height / info.width
    lines = [max((note.count("\n") + 1 for note in layer.notes), default=0) for layer in layers]
    heights = [tall + _GAP + _NOTE * each for each in lines]
    band_height = _TITLE + tall + _GAP + sum(heights) + 0.1
    with figure(margin + across * (side + _GAP), band_height * len(bands)) as drawn:
        drawn.set_layout_engine("none")
        for number, band in enumerate(bands):
            top = number * band_height + _TITLE
            for column, at in enumerate(band):
                left = margin + column * (side + _GAP)
                axes = _axes_at(drawn, left, top, side, tall)
                title = _wrapped(shown.titles[at], 14, most=2)
                axes.set_title(title, fontsize=7, fontweight="normal", loc="center", pad=3)
                lay_cell(axes, shown.cellset, int(shown.rows[at]))
                if at == 0:
                    lay_scale_bar(axes, shown.cellset)
                below = top + tall + _GAP
                for layer, name_of_row, height in zip(layers, names, heights, strict=True):
                    axes = _axes_at(drawn, left, below, side, tall)
                    _lay(axes, layer, at, shown)
                    if column == 0:
                        axes.set_ylabel(name_of_row, rotation=0, ha="right", va="center", fontsize=7.5)
                    below += height
        return keep_printable(drawn, folder, name, alt=alt, caption=caption)


def lay_cell(axes: Axes, cellset: CellSet, row: int, *, grey: bool = False) -> None:
    """A cell as it is, of several channels that are no colours the first; ``grey`` takes the colours out."""
    picture = visible(cellset.read([row])[0], cellset, shrink=False)
    if cellset.channels not in (1, 3):
        picture = picture[:, : cellset.info.width]
    if grey and picture.ndim == 3:
        picture = picture.mean(axis=2)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=_extent(cellset))


def lay_heat(axes: Axes, cellset: CellSet, heat: np.ndarray) -> None:
    """Heat ``(H, W)`` in [0, 1] over a cell: the less of it, the more the cell shows."""
    axes.imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=0.8 * heat, extent=_extent(cellset))


def lay_scale_bar(axes: Axes, cellset: CellSet) -> None:
    """A bar of at most two fifths of the width, with its length; nothing where the pixel size is unknown."""
    um = cellset.info.pixel_size_um
    if um is None:
        return
    length = max((each for each in (1, 2, 5, 10, 20, 50, 100) if each <= 0.4 * um * cellset.info.width), default=1)
    y, left = 0.93 * cellset.info.height, 0.06 * cellset.info.width
    axes.plot([left, left + length / um], [y, y], color="white", linewidth=2.6, solid_capstyle="butt")
    axes.plot([left, left + length / um], [y, y], color=INK, linewidth=1.4, solid_capstyle="butt")
    text = axes.annotate(
        f"{length} µm", (left, y), (0, 2.5), textcoords="offset points", fontsize=6, color=INK, va="bottom"
    )
    text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])  # readable on dark cells too


def _lay(axes: Axes, layer: Layer, at: int, shown: ShownCells) -> None:
    picture, cellset = layer.pictures[at], shown.cellset
    if layer.kind == "heat":
        lay_cell(axes, cellset, int(shown.rows[at]), grey=True)
        lay_heat(axes, cellset, picture)
    elif layer.kind == "shares":
        brightest = max(float(picture.max()), _EVEN * float(picture.mean()))
        axes.imshow(picture, cmap="viridis", vmin=0, vmax=brightest, extent=_extent(cellset), interpolation="nearest")
    else:
        axes.imshow(picture, extent=_extent(cellset), interpolation="nearest")
        axes.spines[:].set(visible=True, color=HAIR)
    if layer.notes:
        axes.set_xlabel(layer.notes[at], fontsize=7, labelpad=2, linespacing=1.1)


def _axes_at(drawn: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at inches from the upper left corner."""
    across, down = drawn.get_size_inches()
    axes = drawn.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


def _extent(cellset: CellSet) -> tuple[float, float, float, float]:
    return (0.0, float(cellset.info.width), float(cellset.info.height), 0.0)


def _wrapped(text: str, letters: int, most: int) -> str:
    """At most ``most`` lines of so many ``letters``, broken at spaces and underscores; what does not fit is cut."""
    lines = [
        line.replace("_ ", "_") for part in text.split("\n") for line in textwrap.wrap(part.replace("_", "_ "), letters)
    ]
    return "\n".join(lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1][: letters - 1]}…"])
