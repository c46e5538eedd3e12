from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.bags.reading import relative_attention
from leukoscope.common.errors import InputError
from leukoscope.report.drawing import slug
from leukoscope.report.evaluation import Evaluation, Pair


@dataclass(frozen=True)
class Cohort:
    """A whole run folder of ``leukoscope mil``, as read: an evaluation whose cells are patients, and their cells."""

    evaluation: Evaluation
    attention: pd.DataFrame

    @classmethod
    def open(cls, run: Path) -> "Cohort":
        """Read what :meth:`Evaluation.open` reads, and ``attention.parquet`` where a model left one.

        Raises:
            InputError: when ``run`` is no whole run folder of ``leukoscope mil``.
        """
        evaluation = Evaluation.open(run)
        if "bags" not in evaluation.results:
            raise InputError(f"{run}: not a finished run of leukoscope mil")
        path = run / "attention.parquet"
        return cls(evaluation, pd.read_parquet(path) if path.is_file() else pd.DataFrame())

    @property
    def results(self) -> dict[str, Any]:
        """What ``results.json`` holds."""
        return self.evaluation.results

    @cached_property
    def readers(self) -> list[Pair]:
        """The models with attention, the best first."""
        if self.attention.empty:
            return []
        with_attention = set(self.attention.groupby(["encoder", "head"]).groups)
        return [pair for pair in self.evaluation.ranked() if pair in with_attention]

    @cached_property
    def leaders(self) -> list[Pair]:
        """The best model with attention of each encoder; where none has any, the best model."""
        found: dict[str, Pair] = {}
        for pair in self.readers or self.evaluation.ranked():
            found.setdefault(pair[0], pair)
        return list(found.values())

    @cached_property
    def patients(self) -> pd.DataFrame:
        """A row a patient: ``patient, label, predicted, probability`` by the best model, and ``fold``; by name."""
        said = self.evaluation.of_cells(self.leaders[0]).rename(columns={"cell_id": "patient"})
        own = self.evaluation.predictions.drop_duplicates("cell_id").set_index("cell_id")["fold"]
        return said.assign(fold=said["patient"].map(own)).sort_values("patient").reset_index(drop=True)

    @cached_property
    def pages(self) -> dict[str, str]:
        """The address of each patient's page, from the cohort's: names that would make one file are numbered."""
        found: dict[str, str] = {}
        taken: set[str] = set()
        for number, name in enumerate(self.patients["patient"]):
            stem = slug(str(name)) or "patient"
            stem = f"{stem}-{number}" if stem in taken else stem
            taken.add(stem)
            found[name] = f"patients/{stem}.html"
        return found

    def looked(self, pair: Pair, classes: pd.Series) -> pd.DataFrame:
        """The relative attention that a model gave each cell, to the class that ``classes`` has for its patient."""
        of_pair = (self.attention["encoder"] == pair[0]) & (self.attention["head"] == pair[1])
        return relative_attention(self.attention[of_pair], classes)

    @cached_property
    def has_class_attention(self) -> bool:
        """Whether the best model with attention has one for each class, rather than one for all."""
        if not self.readers:
            return False
        encoder, head = self.readers[0]
        own = self.attention[(self.attention["encoder"] == encoder) & (self.attention["head"] == head)]
        return "a" not in own or bool(own["a"].isna().all())

    def towards(self, name: str) -> pd.DataFrame:
        """Relative attention of the best model with any to the class ``name``, of all cells."""
        if name not in self._towards:
            everyone = pd.Series(name, index=self.patients["patient"])
            self._towards[name] = self.looked(self.readers[0], everyone)
        return self._towards[name]

    @cached_property
    def _towards(self) -> dict[str, pd.DataFrame]:
        return {}

    def probabilities(self, patient: str) -> pd.DataFrame:
        """What every encoder and model says of a patient, averaged over seeds: ``encoder, head`` and the classes."""
        table = self.evaluation.predictions
        own = table[table["cell_id"] == patient]
        columns = [f"p_{name}" for name in self.evaluation.classes]
        return own.groupby(["encoder", "head"], sort=False)[columns].mean().reset_index()


def mean_curves(cohort: Cohort, pair: Pair, kind: str, points: np.ndarray) -> np.ndarray:
    """ROC (``roc``) or precision-recall (``pr``) curves of every fold and seed, averaged over classes.

    Args:
        cohort: the run.
        pair: encoder and model.
        kind: ``roc`` gives the true positive rate at the false positive rates ``points``, ``pr`` the precision at the
            recalls ``points``.
        points: ``(n,)`` rising from 0 to 1.

    Returns:
        ``(runs, n)``.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    table = cohort.evaluation.predictions
    own = table[(table["encoder"] == pair[0]) & (table["head"] == pair[1])]
    curves = []
    for _, run in own.groupby(["seed", "fold"]):
        of_classes = []
        for name in cohort.evaluation.classes:
            truth = (run["label"] == name).to_numpy()
            if truth.all() or not truth.any():
                continue
            if kind == "roc":
                x, y, _ = roc_curve(truth, run[f"p_{name}"])
                # At one rate the curve may rise: the highest point there counts, and every curve begins at 0.
                of_classes.append(np.interp(points, x, y, left=0.0))
            else:
                precision, recall, _ = precision_recall_curve(truth, run[f"p_{name}"])
                # Precision at a recall is the best at that recall or beyond, as interpolated precision is.
                best = np.maximum.accumulate(precision)
                of_classes.append(best[::-1][np.searchsorted(recall[::-1], points, side="left")])
        if of_classes:
            curves.append(np.mean(of_classes, axis=0))
    return np.array(curves)
