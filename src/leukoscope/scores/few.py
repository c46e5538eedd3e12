from collections.abc import Mapping
from typing import Any

import pandas as pd

from leukoscope.scores.summary import Scores, summarise

_SHOWN = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "roc_auc_macro", "ece")


def few_label_scores(predictions: Mapping[int, pd.DataFrame], *, per_class: bool) -> dict[str, Any]:
    """Scores by the number of labelled cells, as ``results.json`` keeps them under ``few_labels``.

    Mean and standard deviation are over folds and draws: what to expect of one more draw of so many labels, and how far
    draws differ. There is no interval over test cells, which would be narrower and about something else.

    Args:
        predictions: by the number of labelled cells.
        per_class: whether that number is of every class.

    Returns:
        ``per_class``, and ``scores[COUNT][ENCODER][HEAD][METRIC]`` with ``mean`` and ``sd``.
    """
    scores = {str(count): _brief(summarise(table, n_bootstrap=0).scores) for count, table in predictions.items()}
    return {"per_class": per_class, "scores": scores}


def few_label_table(content: Mapping[str, Any]) -> pd.DataFrame:
    """The same as one row for each count, encoder, head and metric: ``labels, encoder, head, metric, mean, sd``."""
    return pd.DataFrame(
        [
            {"labels": int(count), "encoder": encoder, "head": head, "metric": metric, **found}
            for count, scores in content["scores"].items()
            for encoder, heads in scores.items()
            for head, metrics in heads.items()
            for metric, found in metrics.items()
        ]
    )


def _brief(scores: Scores) -> dict[str, Any]:
    return {
        encoder: {
            head: {name: {key: metrics[name][key] for key in ("mean", "sd")} for name in _SHOWN}
            for head, metrics in heads.items()
        }
        for encoder, heads in scores.items()
    }
