from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from leukoscope.encoders.features import Features
from leukoscope.probes.crossval import ProbeSettings, cross_validate
from leukoscope.probes.evaluated import Evaluated, with_group
from leukoscope.scores.shift import REMEDIED

_OF = "\x1f"  # between what was done about a new cell and its cell_id


@dataclass(frozen=True)
class Tested:
    """Predictions, and the folds whose test cells they are of."""

    predictions: pd.DataFrame
    folds: pd.DataFrame


@dataclass(frozen=True)
class Across:
    """What the same heads say of known cells held out and of new cells.

    For the new cells every training fold of the known ones is a repeat of its own, with one fold that tests them all.
    An encoder whose new cells were treated stands as ``NAME + REMEDY``.
    """

    known: Tested
    new: Tested


def predict_across(
    cells: Evaluated,
    new: Mapping[str, Mapping[str, Features]],
    truth: np.ndarray,
    *,
    group: str | None = None,
    heads: Sequence[str] = ("linear", "knn"),
    seed: int = 0,
    settings: ProbeSettings | None = None,
) -> Across:
    """Fit heads on every training fold of ``cells``; each predicts the cells held out and all new ones.

    Args:
        cells: the known cells.
        new: features of the new cells by encoder and by what was done about them (``""`` for nothing), in one order.
        truth: classes of the new cells ``(M,)``, all of them among those of ``cells``.
        group: the column of the new cells that is resampled together.
        heads: which heads.
        seed: of the heads.
        settings: of the heads.
    """
    tables = [
        _predict(cells, encoder, done, truth, heads=heads, seed=seed, settings=settings)
        for encoder, done in new.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    parts = cells.folds[["repeat", "fold"]].drop_duplicates().sort_values(["repeat", "fold"]).to_numpy()
    is_new = table["cell_id"].str.contains(_OF, regex=False)
    known = table[~is_new]
    known = known.assign(repeat=parts[known["repeat"], 0], fold=parts[known["repeat"], 1])
    origin = table.loc[is_new, "cell_id"].str.partition(_OF)
    names = table.loc[is_new, "encoder"].where(origin[0] == "", table["encoder"] + REMEDIED + origin[0])
    strangers = next(iter(next(iter(new.values())).values())).cells
    tested = [
        pd.DataFrame({"cell_id": strangers["cell_id"], "repeat": number, "fold": 0, "role": "test"})
        for number in range(len(parts))
    ]
    folds = pd.concat(tested, ignore_index=True)
    return Across(
        Tested(known, cells.folds),
        Tested(
            table[is_new].assign(cell_id=origin[2], encoder=names),
            folds if group is None else with_group(folds, strangers, group),
        ),
    )


def _predict(
    cells: Evaluated,
    encoder: str,
    new: Mapping[str, Features],
    truth: np.ndarray,
    *,
    heads: Sequence[str],
    seed: int,
    settings: ProbeSettings | None,
) -> pd.DataFrame:
    """Predictions in which the folds of the known cells are repeats of one fold each, which tests new cells too."""
    own = cells.features[encoder]
    ids = [done + _OF + cell for done, each in new.items() for cell in each.ids]
    x = np.concatenate([own.x, *(each.x for each in new.values())])
    together = Features(x, pd.DataFrame({"cell_id": [*own.ids, *ids]}))
    tested = pd.DataFrame({"cell_id": ids, "role": "test"})
    folds = [
        pd.concat([part, tested]).assign(repeat=number, fold=0)
        for number, (_, part) in enumerate(cells.folds.groupby(["repeat", "fold"], sort=True))
    ]
    labels = np.concatenate([cells.labels, *(truth for _ in new)])
    return cross_validate(
        together,
        labels,
        pd.concat(folds, ignore_index=True),
        heads=heads,
        encoder=encoder,
        seeds=(seed,),
        settings=settings,
    ).predictions
