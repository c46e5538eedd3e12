from collections.abc import Callable

import numpy as np
import pandas as pd

from leukoscope.bags.bags import Bags
from leukoscope.bags.folds import table_of
from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features
from leukoscope.probes.crossval import ProbeSettings, cross_validate


def mean_features(bags: Bags) -> np.ndarray:
    """The mean of every feature over the cells of each bag ``(P, D)``."""
    starts = np.concatenate([[0], np.cumsum(bags.sizes)[:-1]])
    means: np.ndarray = np.add.reduceat(bags.features.x, starts, axis=0) / bags.sizes[:, None]
    return means


def kind_shares(bags: Bags) -> np.ndarray:
    """The share of each kind among the cells of a bag whose kind is known ``(P, kinds)``: a manual differential.

    Raises:
        InputError: when the cells have no kinds, or those of some bag have none.
    """
    if bags.kinds is None:
        raise InputError(f"{KIND_SHARES}: needs the kinds of cells; give --kind COLUMN")
    names = sorted({kind for kind in bags.kinds if kind is not None})
    known = bags.kinds[:, None] == np.array(names, dtype=object)[None]
    counts = np.stack([np.bincount(bags.of, weights=each, minlength=len(bags.names)) for each in known.T], axis=1)
    if len(bare := np.flatnonzero(counts.sum(axis=1) == 0)):
        raise InputError(f"{KIND_SHARES}: no cell of {bags.names[bare[0]]} has a known kind")
    shares: np.ndarray = counts / counts.sum(axis=1, keepdims=True)
    return shares


MEAN_FEATURES, KIND_SHARES = "mean-features", "kind-shares"
BASELINES: dict[str, Callable[[Bags], np.ndarray]] = {MEAN_FEATURES: mean_features, KIND_SHARES: kind_shares}
"""What a reviewer will ask for: logistic regression on a few numbers of each bag."""


def cross_validate_numbers(
    numbers: np.ndarray, bags: Bags, folds: pd.DataFrame, *, encoder: str, head: str, device: str
) -> pd.DataFrame:
    """Predictions of logistic regression on the ``numbers`` of each bag ``(P, D)``.

    Its penalty is chosen inside the training bags. The predictions stand under the names ``encoder`` and ``head``.
    """
    table = table_of(bags)
    ids = dict(zip(bags.names, table["cell_id"], strict=True))
    found = cross_validate(
        Features(numbers.astype(np.float32), table),
        bags.labels,
        folds.assign(cell_id=folds["cell_id"].map(ids)),
        heads=("linear",),
        encoder=encoder,
        settings=ProbeSettings(device=device),
    ).predictions
    names = {coded: bag for bag, coded in ids.items()}
    return found.assign(head=head, cell_id=found["cell_id"].map(names))
