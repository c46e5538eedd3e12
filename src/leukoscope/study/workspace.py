from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.labels import Labels, labels_of
from leukoscope.common.errors import InputError
from leukoscope.study.recipe import Recipe, Task


@dataclass(frozen=True)
class Workspace:
    """The output folder of a study: where each stage puts its work, so that a study cut off goes on where it was."""

    out: Path
    recipe: Recipe

    def set_path(self, name: str) -> Path:
        """The CellSet of the recipe's set ``name``."""
        origin = self.recipe.sets[name].open
        return origin if origin is not None else self.out / "sets" / f"{name}.set"

    def split_path(self, name: str) -> Path:
        """The table ``cell_id, part`` of a set that is split."""
        return self.out / "sets" / f"{name}.split.parquet"

    def encoder_path(self, name: str, trial: str = "") -> Path:
        """The run folder of an encoder, or of one trial of its sweep; the bundle is its folder ``encoder``."""
        return self.out / "encoders" / name / trial if trial else self.out / "encoders" / name

    def features_path(self, task: str, encoder: str) -> Path:
        """The features of a task's cells."""
        return self.out / "features" / task / f"{encoder}.h5ad"

    def cohort_path(self, cohort: str) -> Path:
        """The run folder in which a cohort's patients are judged."""
        return self.out / "cohorts" / cohort

    def task_path(self, task: str) -> Path:
        """The run folder of a task's evaluation."""
        return self.out / "tasks" / task

    def cells(self, reference: str) -> CellSet:
        """The cells that ``SET`` or ``SET.PART`` stands for."""
        name, _, part = reference.partition(".")
        cellset = CellSet.open(self.set_path(name))
        if not part:
            return cellset
        parts = pd.read_parquet(self.split_path(name)).set_index("cell_id")["part"].reindex(cellset.ids)
        return cellset.select((parts == part).to_numpy())

    def annotated(self, task: Task) -> tuple[CellSet, Labels]:
        """A task's cells that carry one of its classes, and their labels with the task's merges applied.

        Raises:
            InputError: when a class that the task names does not occur.
        """
        cellset = self.cells(task.cells)
        labels = classes_of(task, cellset)
        known = {label for label in labels if label is not None}
        for name in (*task.merge, *(task.classes or ())):
            if name not in known:
                raise InputError(f"{task.cells}: no cell of class {name!r}; it has {', '.join(sorted(known))}")
        keep = np.array([label in set(task.classes or known) for label in labels])
        cellset = cellset.select(keep)
        return cellset, Labels(pd.DataFrame({"cell_id": cellset.ids, "label": labels[keep], "source": "recipe"}))


def classes_of(task: Task, cellset: CellSet) -> np.ndarray:
    """The task's class of each cell ``(N,)``, its merges applied; None where unknown."""
    to = {old: new for new, olds in task.merge.items() for old in olds}
    return np.array([to.get(label, label) for label in labels_of(cellset, column=task.label)], dtype=object)
