"""Cells as points of a map, coloured by what is known of them: what every map of the reports is drawn with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leukoscope.report.drawing import FAINT, HAIR, INK, colour, marker

ORIGINS = ("batch", "patient", "slide")
NOT_KNOWN = "not known"
_MOST_NAMED = 12
_LAYERS = 12
_LETTERS_AN_INCH = 12
_LARGE_FIRST = "01;02"
# More points than these are pixels in a vector file: it would open slowly, and they overlap anyway.
_MOST_VECTORS = 2000

Look = Literal["plain", "light", "strong"]


@dataclass(frozen=True)
class Colouring:
    """What a panel of a map colours cells by: the value of each ``(n,)`` as objects, and the order of all values."""

    title: str
    values: np.ndarray
    names: Sequence[str]

    @classmethod
    def origins(cls, cells: pd.DataFrame, *, most: int = 2) -> "list[Colouring]":
        """By batch, patient and slide, as far as the table ``cells`` knows them; ``most`` of these."""
        known = [name for name in ORIGINS if name in cells.columns and cells[name].notna().any()]
        return [cls.of(name, cells[name]) for name in known[:most]]

    @classmethod
    def of(cls, title: str, values: pd.Series) -> "Colouring":
        """By ``values``, with those not known last."""
        known = values.astype("string").fillna(NOT_KNOWN).to_numpy(dtype=object)
        return cls(title, known, sorted(set(known), key=lambda name: (name == NOT_KNOWN, name)))


def panels(drawn: Figure, colourings: Sequence[Colouring], width: float) -> Iterator[tuple[Axes, Colouring, float]]:
    """Up to three panels in a figure ``width`` inches wide, each with its own width; of three the first is large."""
    large = len(colourings) == 3
    layout, ratios = (_LARGE_FIRST, [2, 1]) if large else ("012"[: len(colourings)], [1] * len(colourings))
    by_number = drawn.subplot_mosaic(layout, width_ratios=ratios)
    for number, colouring in enumerate(colourings):
        axes = by_number[str(number)]
        axes.set_title(f"by {colouring.title}")
        yield axes, colouring, width * ratios[min(number, len(ratios) - 1)] / sum(ratios)


def scatter(
    axes: Axes, places: np.ndarray, values: np.ndarray, names: Sequence[str], *, look: Look = "plain", zoom: float = 1.0
) -> None:
    """Points ``(n, 2)`` coloured by ``values`` ``(n,)``; more than twelve ``names`` share one scale of colours.

    ``light`` points are the ground for others; ``strong`` ones stand out from it. ``zoom`` scales their areas.
    """
    codes = pd.Index(names).get_indexer(pd.Index(values))
    order = np.random.default_rng(0).permutation(len(places))  # no group lies on top of another
    x, y = places[order].T
    how = _style(len(places), look, zoom)
    if len(names) <= _MOST_NAMED:
        for part in np.array_split(np.arange(len(order)), _LAYERS):
            for index in range(len(names)):
                at = part[codes[order][part] == index]
                axes.scatter(x[at], y[at], c=_colour(names, index), marker=marker(index), **how)
    else:
        axes.scatter(x, y, c=codes[order], cmap="viridis", vmin=0, vmax=len(names) - 1, **how)
    _bare(axes)


def dots(axes: Axes, places: np.ndarray, *, look: Look = "strong") -> None:
    """Points ``(n, 2)`` in the colour of ink, whatever they are; ``light`` ones are grey."""
    x, y = places.T
    own = {"c": FAINT} if look == "light" else {"c": INK, "edgecolors": "white"}
    axes.scatter(x, y, **_style(len(places), look) | own)
    _bare(axes)


def legend(axes: Axes, names: Sequence[str], width: float) -> None:
    """The names below a panel ``width`` inches wide, or only how many there are."""
    if len(names) > _MOST_NAMED:
        axes.text(0.5, -0.03, f"{len(names)} of them", transform=axes.transAxes, ha="center", va="top", color=FAINT)
        return
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), **_legend(axes, names, width))


def shared_legend(drawn: Figure, names: Sequence[str], width: float) -> None:
    """The names once below all panels of a figure ``width`` inches wide; none where they are too many to name."""
    if len(names) <= _MOST_NAMED:
        drawn.legend(loc="outside lower center", **_legend(drawn.axes[0], names, width))


def _legend(axes: Axes, names: Sequence[str], width: float) -> dict[str, Any]:
    handles = [
        axes.scatter([], [], 26, _colour(names, index), marker=marker(index), linewidths=0, label=name)
        for index, name in enumerate(names)
    ]
    # As many columns as fit below the panel: a wider legend would squeeze it.
    across = int(np.clip(width * _LETTERS_AN_INCH / (max(map(len, names)) + 4), 1, 6))
    return {"handles": handles, "ncols": across, "handletextpad": 0.1, "columnspacing": 0.9}


def _colour(names: Sequence[str], index: int) -> str:
    return FAINT if names[index] == NOT_KNOWN else colour(index)


def _style(count: int, look: Look, zoom: float = 1.0) -> dict[str, Any]:
    size = zoom * float(np.clip(9000 / max(count, 1), 3, 22))
    how: dict[Look, dict[str, Any]] = {
        "plain": {"s": size, "linewidths": 0, "alpha": 0.75},
        "light": {"s": size, "linewidths": 0, "alpha": 0.25},
        "strong": {"s": max(size, 9.0 * zoom), "linewidths": 0.5 * zoom, "edgecolors": INK},
    }
    return {**how[look], "rasterized": count > _MOST_VECTORS}


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[:].set(visible=True, color=HAIR)
