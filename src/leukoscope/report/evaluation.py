from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.common.errors import InputError
from leukoscope.common.files import read_json
from leukoscope.common.settings import read_yaml
from leukoscope.scores import predictions
from leukoscope.scores.class_groups import grouped
from leukoscope.scores.significance import frozen

LEADING_METRIC = "balanced_accuracy"
_NAMES = dict.fromkeys(("encoder", "head", "class", "group"), str)

Pair = tuple[str, str]


@dataclass(frozen=True)
class Evaluation:
    """A whole run folder of ``leukoscope evaluate``, as read: the report draws from it and scores nothing anew."""

    path: Path
    results: dict[str, Any]
    predictions: pd.DataFrame
    folds: pd.DataFrame | None
    per_class: pd.DataFrame | None
    choices: pd.DataFrame | None
    recipe: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Evaluation":
        """Read ``results.json``, ``predictions.parquet`` and, where they are there, folds, tables and the recipe.

        Raises:
            InputError: when ``path`` is no whole run folder of an evaluation.
        """
        if not (path / "results.json").is_file():
            raise InputError(
                f"{path}: no evaluation (no results.json); make one with 'leukoscope evaluate FEATURES {path}'"
            )
        results = read_json(path / "results.json")
        missing = [key for key in ("classes", "scores", "confusion") if key not in results]
        if missing:
            raise InputError(f"{path}/results.json: no evaluation's results; missing: {', '.join(missing)}")
        return cls(
            path=path,
            results=results,
            predictions=predictions.read(path / "predictions.parquet"),
            folds=_table(path / "folds.parquet"),
            choices=_table(path / "choices.csv"),
            per_class=_table(path / "tables" / "per_class.csv"),
            recipe=read_yaml(path / "recipe.yaml") if (path / "recipe.yaml").is_file() else {},
        )

    @property
    def classes(self) -> list[str]:
        """The classes, in the order of the confusion matrices."""
        return list(self.results["classes"])

    @property
    def provenance(self) -> dict[str, Any]:
        """What ``provenance.json`` holds; empty where the run left none."""
        return dict(self.results.get("provenance", {}))

    @property
    def pairs(self) -> list[Pair]:
        """Every (encoder, head) that was scored, frozen encoders first."""
        every = [(encoder, head) for encoder, heads in self.results["scores"].items() for head in heads]
        return sorted(every, key=lambda pair: not frozen(*pair))

    @property
    def group(self) -> str | None:
        """The column whose groups no fold takes apart (a patient, a slide), None where cells were dealt singly."""
        return self.results.get("group")

    @property
    def origins(self) -> dict[str, dict[str, Any]]:
        """What is known of each encoder as it came: method, backbone, fingerprints, ``seen_in_pretraining``."""
        return dict(self.results.get("encoders", {}))

    def taught(self, encoder: str) -> bool:
        """Whether a frozen encoder learned from labels."""
        return bool(self.origins.get(encoder, {}).get("with_labels"))

    @cached_property
    def class_counts(self) -> dict[str, int]:
        """The number of evaluated cells of each class."""
        labels = self.predictions.drop_duplicates("cell_id")["label"].value_counts()
        return {name: int(labels.get(name, 0)) for name in self.classes}

    def score(self, pair: Pair, metric: str) -> dict[str, Any] | None:
        """``mean, sd, low, high, folds`` of one metric; None where it was not computed."""
        found = self.results["scores"][pair[0]][pair[1]].get(metric)
        return found if found and found.get("mean") is not None else None

    def confusion(self, pair: Pair) -> np.ndarray:
        """Counts ``(classes, classes)`` int64: rows are true, columns predicted."""
        return np.asarray(self.results["confusion"][pair[0]][pair[1]], dtype=np.int64)

    @cached_property
    def of_groups(self) -> "Evaluation | None":
        """The same evaluation with the groups of classes in the place of the classes; None where none were named."""
        found = self.results.get("groups")
        if found is None:
            return None
        each = _table(self.path / "tables" / "per_group.csv")
        return replace(
            self,
            results={**self.results, **found, "classes": list(found["of"])},
            predictions=grouped(self.predictions, found["of"]),
            per_class=None if each is None else each.rename(columns={"group": "class"}),
        )

    def leaders(self) -> Iterator[Pair]:
        """The best head of each frozen encoder and every network trained whole, best first within each kind."""
        seen = set()
        for pair in self.ranked():
            if not frozen(*pair) or pair[0] not in seen:
                yield pair
            seen.add(pair[0])

    def ranked(self) -> list[Pair]:
        """Every pair by :data:`LEADING_METRIC`, best first; frozen encoders before networks trained whole."""

        def key(pair: Pair) -> tuple[bool, float]:
            score = self.score(pair, LEADING_METRIC) or self.score(pair, "accuracy") or {"mean": 0.0}
            return not frozen(*pair), -float(score["mean"])

        return sorted(self.pairs, key=key)

    def answers(self, pair: Pair) -> pd.DataFrame:
        """One row a prediction: ``cell_id, label, predicted, probability``; a cell has one for each seed and repeat."""
        rows = self.predictions
        return self._answered(rows[(rows["encoder"] == pair[0]) & (rows["head"] == pair[1])])

    def of_cells(self, pair: Pair) -> pd.DataFrame:
        """As :meth:`answers`, but one row a cell, with probabilities averaged over seeds and repeats."""
        rows = self.predictions
        rows = rows[(rows["encoder"] == pair[0]) & (rows["head"] == pair[1])]
        averaged = {"label": "first", **dict.fromkeys((f"p_{name}" for name in self.classes), "mean")}
        return self._answered(rows.groupby("cell_id", sort=False).agg(averaged).reset_index())

    def _answered(self, rows: pd.DataFrame) -> pd.DataFrame:
        probabilities = rows[[f"p_{name}" for name in self.classes]].to_numpy(dtype=np.float64)
        predicted = np.asarray(self.classes, dtype=object)[probabilities.argmax(axis=1)]
        answered = rows[["cell_id", "label"]].reset_index(drop=True)
        return answered.assign(predicted=predicted, probability=probabilities.max(axis=1))


def _table(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        # A class may be called NA or 1, so only an empty field is an unknown, and names stay text.
        return pd.read_csv(path, dtype=_NAMES, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]}); run the evaluation again") from None
