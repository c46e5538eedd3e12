from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from leukoscope.report.drawing import FAINT, Picture, colour, figure, keep, light_grid
from leukoscope.report.evaluation import Evaluation, Pair
from leukoscope.scores.reliability import BINS, reliability

# Column of history.csv, what the panel says.
_PANELS = (
    ("loss", "contrastive loss"),
    ("top1", "top-1 accuracy over K + 1"),
    ("rankme", "RankMe (effective rank)"),
    ("knn", "online k-NN accuracy"),
)
_FEW_ANSWERS = 10  # in a bin: too few to draw
_FEW_EPOCHS = 15


def draw_training(history: Mapping[str, Path], folder: Path) -> Picture | None:
    """Loss, top-1 accuracy, RankMe and online k-NN over the epochs of pre-training; None where nothing was logged."""
    tables = {name: pd.read_csv(path) for name, path in history.items() if path.is_file()}
    panels = [(column, title) for column, title in _PANELS if any(_logged(t, column) for t in tables.values())]
    if not panels:
        return None
    with figure(9.0, 2.3 * ((len(panels) + 1) // 2) + 0.25) as drawn:
        grid = drawn.subplots((len(panels) + 1) // 2, 2, squeeze=False)
        for axes, (column, title) in zip(grid.flat, panels, strict=False):
            _curves(axes, tables, column, title)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        if len(tables) > 1:
            drawn.legend(
                *grid.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(tables), 5)
            )
        ends = "; ".join(_ends(name, table) for name, table in tables.items())
        return keep(drawn, folder, "training", alt=f"Curves of pre-training over epochs. At the end: {ends}.")


def draw_reliability(evaluation: Evaluation, folder: Path, at_most: int = 6) -> Picture:
    """Reliability diagrams: the share of right answers among cells answered with a given probability.

    Ten bins of equal width over the probability of the predicted class, as in Guo et al. (2017), arXiv:1706.04599; bars
    below show how many cells fall into each.
    """
    pairs = list(evaluation.leaders())[:at_most]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    with figure(3.0 * columns, 3.4 * rows) as drawn:
        grid = drawn.subplots(2 * rows, columns, squeeze=False, sharex=True, height_ratios=[4, 1] * rows)
        for number, pair in enumerate(pairs):
            row, column = divmod(number, columns)
            _reliability(grid[2 * row, column], grid[2 * row + 1, column], evaluation, pair)
        for number in range(len(pairs), rows * columns):
            row, column = divmod(number, columns)
            grid[2 * row, column].set_visible(False)
            grid[2 * row + 1, column].set_visible(False)
        names = ", ".join(f"{encoder} with {head}" for encoder, head in pairs)
        return keep(
            drawn, folder, "reliability", alt=f"Reliability diagrams of {names}; the diagonal is perfect calibration."
        )


def _logged(table: pd.DataFrame, column: str) -> bool:
    return column in table.columns and bool(table[column].notna().any())


def _curves(axes: Axes, tables: Mapping[str, pd.DataFrame], column: str, title: str) -> None:
    for index, (name, table) in enumerate(tables.items()):
        if _logged(table, column):
            shown = table.dropna(subset=[column])
            dots = "o" if len(shown) < _FEW_EPOCHS else ""
            axes.plot(shown["epoch"], shown[column], color=colour(index), label=name, marker=dots, markersize=3)
    axes.set_title(title)
    axes.set_xlabel("epoch")
    light_grid(axes)


def _ends(name: str, table: pd.DataFrame) -> str:
    last = [f"{title} {table[column].dropna().iloc[-1]:.3g}" for column, title in _PANELS if _logged(table, column)]
    return f"{name}: {', '.join(last)}"


def _reliability(above: Axes, below: Axes, evaluation: Evaluation, pair: Pair) -> None:
    cells = evaluation.answers(pair)
    right = (cells["label"] == cells["predicted"]).to_numpy(dtype=np.float64)
    probability = cells["probability"].to_numpy()
    found = reliability(probability, right)
    filled = found.cells >= _FEW_ANSWERS
    above.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
    above.plot(found.said[filled], found.right[filled], color=colour(0), marker="o", markersize=3)
    ece = evaluation.score(pair, "ece")
    above.set_title(" · ".join(pair))
    if ece:
        above.text(0.04, 0.94, f"ECE {ece['mean']:.3f}", transform=above.transAxes, va="top")
    above.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share right")
    light_grid(above)
    below.bar((np.arange(BINS) + 0.5) / BINS, found.cells / found.cells.sum(), width=0.085, color="#b9c6d2")
    below.set(ylim=(0, None), yticks=[], xlabel="probability given", ylabel="answers")
