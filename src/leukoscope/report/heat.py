from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import nn

from leukoscope.cells.cellset import CellSet
from leukoscope.probes.head import Data, Job
from leukoscope.probes.linear import LinearProbe
from leukoscope.probes.nested import TrainingSet
from leukoscope.report.cellgrid import lay_cell, lay_heat
from leukoscope.report.drawing import Picture, figure, keep, slug
from leukoscope.report.evaluation import Evaluation

if TYPE_CHECKING:
    from leukoscope.encoders.bundle import Encoder
    from leukoscope.encoders.features import Features

_MOST_CLASSES = 12
_ROWS = ("right", "", "wrong", "")


@dataclass(frozen=True)
class _Fold:
    """A linear head fitted on one fold's training cells, and its answers on the test cells (rows of the CellSet)."""

    head: nn.Linear
    test: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray


def draw_heat(
    evaluation: Evaluation, name: str, encoder: "Encoder", features: "Features", cellset: CellSet, folder: Path
) -> Picture | None:
    """Grad-CAM of one encoder on held-out cells: of each class the surest right answer and the surest wrong one.

    Heat needs a head that can be differentiated: the linear one is fitted again on the training cells of the first
    fold, and only cells of its test fold are shown. None where folds, features and cells do not meet.
    """
    from leukoscope.encoders.readout import Readout
    from leukoscope.explain.gradcam import grad_cam

    fold = _fold(evaluation, name, features, cellset)
    if fold is None:
        return None
    classes = evaluation.classes[:_MOST_CLASSES]
    chosen = [_surest(fold, index, right) for index in range(len(classes)) for right in (True, False)]
    shown = [at for at in chosen if at is not None]
    predicted = fold.probabilities.argmax(axis=1)
    stages = Readout.of(features.uns).stages
    found = grad_cam(encoder, cellset, fold.test[shown], fold.head, predicted[shown], stages=stages, device="cpu")
    heat = dict(zip(shown, found, strict=True))
    with figure(0.35 + 1.08 * len(classes), 4.9) as drawn:
        grid = drawn.subplots(4, len(classes), squeeze=False)
        for column, title in enumerate(classes):
            grid[0, column].set_title(title, loc="center")
            for half in range(2):
                at = chosen[2 * column + half]
                above, below = grid[2 * half, column], grid[2 * half + 1, column]
                if at is not None:
                    said = f"{evaluation.classes[predicted[at]]} {fold.probabilities[at].max():.2f}"
                    _cell(above, below, cellset, int(fold.test[at]), heat[at], said)
        for row, axes in enumerate(grid[:, 0]):
            axes.set_ylabel(_ROWS[row])
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        first = "" if cellset.channels in (1, 3) else f" Heat lies on channel {cellset.info.channels[0]}."
        return keep(
            drawn,
            folder,
            slug("gradcam", name),
            alt=f"Grad-CAM of {name} on one right and one wrong cell of each class: {', '.join(classes)}.",
            caption=f"Grad-CAM of {name} under a linear head of the first fold, on cells that fold held out: of each "
            "class the surest right and the surest wrong answer, the cell above and below it the heat for the class "
            f"predicted (named with its probability). Each heat is scaled by its own maximum; where there is "
            f"none, nothing spoke for the class.{first}",
            dpi=130,
        )


def _fold(evaluation: Evaluation, name: str, features: "Features", cellset: CellSet) -> _Fold | None:
    if evaluation.folds is None:
        return None
    folds = evaluation.folds
    folds = folds[(folds["repeat"] == 0) & (folds["fold"] == folds["fold"].min())].set_index("cell_id")["role"]
    labels = evaluation.predictions.drop_duplicates("cell_id").set_index("cell_id")["label"].reindex(features.ids)
    y = pd.Index(evaluation.classes).get_indexer(pd.Index(labels))
    role = folds.reindex(features.ids).to_numpy()
    rows = pd.Series(np.arange(len(cellset)), index=cellset.ids).reindex(features.ids).to_numpy()
    train, test = (role == "train") & (y >= 0), (role == "test") & (y >= 0) & ~np.isnan(rows)
    if not test.any() or len(set(y[train])) < 2:
        return None
    head = _linear_head(evaluation, name, features.x[train], y[train])
    with torch.no_grad():
        probabilities = head(torch.from_numpy(features.x[test])).softmax(dim=1).numpy()
    return _Fold(head, rows[test].astype(np.int64), y[test], probabilities)


def _linear_head(evaluation: Evaluation, name: str, x: np.ndarray, y: np.ndarray) -> nn.Linear:
    """The linear head of the first fold, with the penalty that the evaluation chose where it tells."""
    choices = evaluation.choices
    penalty = 0.01
    if choices is not None and "C" in choices:
        own = choices[(choices["encoder"] == name) & (choices["head"] == "linear")].sort_values(["repeat", "fold"])
        penalty = float(own["C"].iloc[0]) if len(own) else penalty
    data = Data(torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)), len(evaluation.classes))
    job = Job(TrainingSet(np.arange(len(x)), inner=()))
    found = LinearProbe(C=(penalty,)).fit(data, [job])[0].head
    head = nn.Linear(x.shape[1], len(evaluation.classes))
    head.load_state_dict(found.state())
    return head.eval()


def _surest(fold: _Fold, index: int, right: bool) -> int | None:
    """Where among the test cells the surest right or wrong answer about class ``index`` is."""
    hit = fold.probabilities.argmax(axis=1) == index
    at = np.flatnonzero((fold.truth == index) & (hit == right))
    return int(at[fold.probabilities[at].max(axis=1).argmax()]) if len(at) else None


def _cell(above: Axes, below: Axes, cellset: CellSet, row: int, heat: np.ndarray, said: str) -> None:
    for axes in (above, below):
        lay_cell(axes, cellset, row)
    lay_heat(below, cellset, heat)
    below.set_xlabel(f"→ {said}", fontsize=7)
