from collections.abc import Sequence

import pandas as pd

from leukoscope.common.errors import InputError

_FOLD = ["repeat", "fold"]
_HEAD = "linear"


def choose_encoders(tried: pd.DataFrame, candidates: Sequence[str]) -> pd.DataFrame:
    """For each outer fold, the encoder whose linear probe was best inside its training cells.

    Best is the least mean log loss over the inner folds, at the probe's own best penalty; no test cell has a say.

    Args:
        tried: what heads tried inside the training folds: ``encoder, head, repeat, fold, log_loss, accuracy, ...``.
        candidates: names of encoders, such as the trials of a sweep.

    Returns:
        ``repeat, fold, encoder, log_loss, accuracy``: one row an outer fold.

    Raises:
        InputError: when no linear head tried several penalties on them, which is what is compared.
    """
    linear = tried[tried["head"] == _HEAD] if len(tried) else tried
    rows = linear[linear["encoder"].isin(candidates)].reset_index(drop=True) if len(linear) else linear
    if rows.empty:
        raise InputError(f"{', '.join(candidates)}: to choose among them, the head {_HEAD} needs several values of C")
    best = rows.loc[rows.groupby(_FOLD)["log_loss"].idxmin()]
    return best[[*_FOLD, "encoder", "log_loss", "accuracy"]].reset_index(drop=True)


def as_chosen(predictions: pd.DataFrame, chosen: pd.DataFrame, name: str) -> pd.DataFrame:
    """The predictions of an encoder ``name`` that is, in each outer fold, the one chosen there; all of its heads."""
    rows = predictions.merge(chosen[[*_FOLD, "encoder"]], on=[*_FOLD, "encoder"])
    return rows.assign(encoder=name)[predictions.columns]
