from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from leukoscope.report.drawing import FAINT, Picture, colour, figure, keep, marker, slug
from leukoscope.report.evaluation import Evaluation

if TYPE_CHECKING:
    from leukoscope.encoders.features import Features

_MOST_POINTS = 5000
_MOST_NAMED = 12
_LAYERS = 12
_LETTERS_AN_INCH = 12
_LARGE_FIRST = "01;02"
_ORIGINS = ("batch", "patient", "slide")


def draw_map(evaluation: Evaluation, name: str, features: "Features", folder: Path, *, seed: int) -> Picture | None:
    """A UMAP of one encoder's features by class and, where known, by batch and by patient or slide.

    At most 5,000 cells are drawn, chosen by ``seed``. None where ``features`` holds none of the evaluated cells.
    """
    from leukoscope.explain.map2d import umap_map

    labels = evaluation.predictions.drop_duplicates("cell_id").set_index("cell_id")["label"].reindex(features.ids)
    known = np.flatnonzero(labels.notna().to_numpy())
    if len(known) < 10:
        return None
    rows = np.sort(np.random.default_rng(seed).permutation(known)[:_MOST_POINTS])
    places = umap_map(features.x[rows], seed=seed)
    panels = [("class", labels.to_numpy()[rows], evaluation.classes)]
    for column in _ORIGINS:
        if column in features.cells.columns and features.cells[column].notna().any() and len(panels) < 3:
            values = features.cells[column].iloc[rows].astype("string").fillna("not known").to_numpy(dtype=object)
            panels.append((column, values, sorted(set(values))))
    with figure(9.0, 4.9 if len(panels) > 1 else 6.0) as drawn:
        # Of three panels the one by class is the large one.
        layout, ratios = (_LARGE_FIRST, [2, 1]) if len(panels) == 3 else ("012"[: len(panels)], [1] * len(panels))
        by_number = drawn.subplot_mosaic(layout, width_ratios=ratios)
        for number, (title, values, names) in enumerate(panels):
            axes = by_number[str(number)]
            _scatter(axes, places, values, names, width=9.0 * ratios[min(number, len(ratios) - 1)] / sum(ratios))
            axes.set_title(f"by {title}")
        shown = ", ".join(title for title, _, _ in panels)
        return keep(
            drawn,
            folder,
            slug("map", name),
            alt=f"Map of the features of {name}, {len(rows)} cells, coloured by {shown}.",
            caption=f"UMAP of the features of {name}, {len(rows):,} cells by {shown}. Near cells have like features; "
            "distances between groups, their sizes and the axes mean nothing.",
            dpi=180,
        )


def _scatter(axes: Axes, places: np.ndarray, values: np.ndarray, names: Sequence[str], *, width: float) -> None:
    size = float(np.clip(9000 / len(places), 3, 22))
    codes = pd.Index(names).get_indexer(pd.Index(values))
    order = np.random.default_rng(0).permutation(len(places))  # no group lies on top of another
    x, y = places[order].T
    if len(names) <= _MOST_NAMED:
        for part in np.array_split(np.arange(len(order)), _LAYERS):
            for index in range(len(names)):
                at = part[codes[order][part] == index]
                axes.scatter(x[at], y[at], size, colour(index), marker=marker(index), linewidths=0, alpha=0.75)
        _legend(axes, names, width)
    else:
        axes.scatter(x, y, size, codes[order], cmap="viridis", linewidths=0, alpha=0.75)
        axes.text(0.5, -0.03, f"{len(names)} of them", transform=axes.transAxes, ha="center", va="top", color=FAINT)
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[:].set(visible=True, color="#e3e7eb")


def _legend(axes: Axes, names: Sequence[str], width: float) -> None:
    handles = [
        axes.scatter([], [], 26, colour(index), marker=marker(index), linewidths=0, label=name)
        for index, name in enumerate(names)
    ]
    # As many columns as fit below the panel: a wider legend would squeeze it.
    across = int(np.clip(width * _LETTERS_AN_INCH / (max(map(len, names)) + 4), 1, 6))
    where = (0.5, -0.02)
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=where, ncols=across, handletextpad=0.1, columnspacing=0.9
    )
