from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from leukoscope.report.drawing import INK, PROPORTION, Picture, figure, keep, slug
from leukoscope.report.evaluation import Evaluation, Pair


def draw_confusion(evaluation: Evaluation, pair: Pair, folder: Path, name: str = "confusion") -> Picture:
    """A confusion matrix: in each field the count and its share of the row's true class, which gives the shade.

    Its file is called by ``name`` and the pair.
    """
    return draw_matrix(evaluation.confusion(pair), evaluation.classes, pair, folder, name)


def draw_matrix(counts: np.ndarray, classes: list[str], pair: Pair, folder: Path, name: str = "confusion") -> Picture:
    """The same of counts ``(K, K)``, rows true and columns predicted."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.15 + 0.54 * len(classes)
    with figure(side + 0.25, side) as drawn:
        axes = drawn.subplots()
        axes.imshow(shares, cmap=PROPORTION, vmin=0, vmax=1)
        for row, column in np.ndindex(*counts.shape):
            _annotate(axes, row, column, int(counts[row, column]), float(shares[row, column]))
        axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(classes)), classes)
        axes.set_xticks(np.arange(-0.5, len(classes)), minor=True)
        axes.set_yticks(np.arange(-0.5, len(classes)), minor=True)
        axes.grid(which="minor", color="white", linewidth=1.2)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        return keep(
            drawn,
            folder,
            slug(name, *pair),
            alt=f"Confusion matrix of {pair[0]} with head {pair[1]}. {worst_confusions(counts, classes)}",
            caption=" · ".join(pair),
        )


def worst_confusions(counts: np.ndarray, classes: list[str], how_many: int = 3) -> str:
    """The most frequent confusions in words, by their share of the true class."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0.0)
    found = []
    for flat in np.argsort(shares, axis=None)[::-1][:how_many]:
        row, column = np.unravel_index(flat, shares.shape)
        if counts[row, column] and row != column:
            count, share = counts[row, column], 100 * shares[row, column]
            found.append(f"{classes[row]} taken for {classes[column]}: {count:,} ({share:.1f} %)")
    return "Most frequent confusions: " + "; ".join(found) + "." if found else "No cell was confused."


def _annotate(axes: Axes, row: int, column: int, count: int, share: float) -> None:
    ink = "white" if share > 0.6 else INK if count else "#b4bcc4"
    axes.text(column, row - 0.05, f"{count:,}", ha="center", va="bottom", fontsize=8.5, color=ink)
    axes.text(column, row + 0.08, f"{100 * share:.1f} %", ha="center", va="top", fontsize=6.8, color=ink)
