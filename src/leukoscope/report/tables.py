import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from leukoscope.report.evaluation import Evaluation, Pair
from leukoscope.scores.significance import SUPERVISED, frozen

NO_VALUE = "–"

METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision_macro": "precision",
    "f1_macro": "F1",
    "roc_auc_macro": "ROC AUC",
    "kappa": "kappa",
    "ece": "ECE",
}
_PER_CLASS = {"precision": "precision", "recall": "recall", "f1": "F1", "roc_auc": "ROC AUC", "pr_auc": "PR AUC"}
_LOWER_IS_BETTER = {"log_loss", "ece"}


@dataclass(frozen=True)
class Field:
    """One field of a table.

    ``small`` stands below ``text``, ``strong`` marks the best, ``mark`` follows the text, ``href`` makes it a link.
    """

    text: str
    small: str = ""
    strong: bool = False
    mark: str = ""
    value: float | None = None
    href: str = ""


@dataclass(frozen=True)
class Group:
    """Rows under one sub-heading; the first field of a row is its heading."""

    title: str
    rows: list[list[Field]]


@dataclass(frozen=True)
class Table:
    """A table for the page: the first ``text_columns`` columns are words, the rest numbers."""

    name: str
    caption: str
    columns: list[str]
    groups: list[Group]
    text_columns: int = 1
    note: str = ""


def metric_table(evaluation: Evaluation) -> Table:
    """Encoder and head against the main metrics: mean over folds, and the 95 % interval below it."""
    metrics = [name for name in METRICS if any(evaluation.score(pair, name) for pair in evaluation.pairs)]
    best = {metric: _best(evaluation, metric) for metric in metrics}
    groups = [
        Group(title, [_metric_row(evaluation, pair, metrics, best) for pair in pairs])
        for title, pairs in _kinds(evaluation)
    ]
    return Table(
        "metrics",
        "Scores of every encoder and head on held-out cells: mean over folds, and below it the 95 % bootstrap "
        f"interval{_resampled(evaluation)}. Precision, F1 and ROC AUC are averaged over classes with equal weight.",
        ["encoder", "head", *(METRICS[metric] for metric in metrics)],
        groups,
        text_columns=2,
        note="Bold: the best mean of its column. ≈: the interval overlaps that of the best, so this table alone does "
        "not set the two apart; the tests below compare them fold by fold.",
    )


def every_metric_table(evaluation: Evaluation) -> Table:
    """Every metric of every pair as mean and standard deviation over folds."""
    names = list(dict.fromkeys(m for e, h in evaluation.pairs for m in evaluation.results["scores"][e][h]))
    rows = []
    for name in names:
        fields = [Field(metric_name(name))]
        for pair in evaluation.pairs:
            score = evaluation.score(pair, name)
            fields.append(Field(f"{score['mean']:.3f}", f"± {number(score['sd'])}") if score else Field(NO_VALUE))
        rows.append(fields)
    return Table(
        "every-metric",
        "Every metric: mean and, below it, standard deviation over folds.",
        ["metric", *(f"{encoder} {head}" for encoder, head in evaluation.pairs)],
        [Group("", rows)],
    )


def per_class_table(evaluation: Evaluation, pairs: Sequence[Pair]) -> Table | None:
    """Scores of each class for each of ``pairs``, as the evaluation left them; None where it left none."""
    found = evaluation.per_class
    if found is None:
        return None
    groups = []
    for encoder, head in pairs:
        rows = found[(found["encoder"] == encoder) & (found["head"] == head)].to_dict("records")
        groups.append(Group(f"{encoder} · {head}", [_class_row(row) for row in rows]))
    return Table(
        "per-class",
        "Scores of each class against all others: mean over folds, and below it the 95 % bootstrap interval.",
        ["class", *_PER_CLASS.values(), "answers"],
        groups,
        note="The best head of each frozen encoder and every network trained whole; tables/per_class.csv holds all.",
    )


def class_groups(evaluation: Evaluation) -> list[Table]:
    """Which classes make a group, and the scores of groups; nothing where none were named."""
    of_groups = evaluation.of_groups
    if of_groups is None:
        return []
    of = evaluation.results["groups"]["of"].items()
    made = pairs_table("class-groups", "Groups of classes.", [(name, ", ".join(classes)) for name, classes in of])
    scores = replace(
        metric_table(of_groups),
        name="group-metrics",
        caption="Scores of the groups, computed as those of the classes: a group's probability is the sum over its "
        "classes, and the predicted group that of the largest sum.",
        note="Bold: the best mean of its column. ≈: the interval overlaps that of the best.",
    )
    each = per_class_table(of_groups, list(of_groups.leaders()))
    if each is None:
        return [made, scores]
    caption = "Scores of each group against all others: mean over folds, and below it the 95 % bootstrap interval."
    note = each.note.replace("per_class", "per_group")
    return [
        made,
        scores,
        replace(each, name="per-group", caption=caption, columns=["group", *each.columns[1:]], note=note),
    ]


def pairs_table(name: str, caption: str, rows: Iterable[tuple[str, str]]) -> Table:
    """A table of names and what stands behind them."""
    return Table(name, caption, ["", ""], [Group("", [[Field(a), Field(b)] for a, b in rows])], text_columns=2)


def metric_name(metric: str) -> str:
    """The name of a metric as people write it: ``roc_auc_macro`` is ROC AUC macro."""
    words = metric.replace("roc_auc", "ROC AUC").replace("pr_auc", "PR AUC").replace("f1", "F1").replace("ece", "ECE")
    return words.replace("_", " ")


def number(value: float | None) -> str:
    """Three decimals, or a dash."""
    return NO_VALUE if value is None else f"{value:.3f}"


def p_value(value: float | None) -> str:
    """A p-value as papers print it."""
    if value is None:
        return NO_VALUE
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def interval(score: Mapping[str, float | None]) -> str:
    """``low–high`` of a score, or nothing where there is no interval."""
    if score.get("low") is None or score.get("high") is None:
        return ""
    return f"{score['low']:.3f}–{score['high']:.3f}"


def _resampled(evaluation: Evaluation) -> str:
    how = evaluation.results.get("intervals")
    if not how:
        return ""
    units = f"{evaluation.group} groups" if evaluation.group and how["resampled"] == "groups" else how["resampled"]
    return f" ({how['resamples']:,} resamples of {how['units']:,} {units})"


def _kinds(evaluation: Evaluation) -> list[tuple[str, list[Pair]]]:
    fixed = [pair for pair in evaluation.pairs if frozen(*pair)]
    taught = [pair for pair in fixed if evaluation.taught(pair[0])]
    trained = [pair for pair in evaluation.pairs if pair[0] == SUPERVISED]
    tuned = [pair for pair in evaluation.pairs if pair not in fixed and pair not in trained]
    kinds = [("Frozen encoders, heads fitted on their features", [pair for pair in fixed if pair not in taught])]
    kinds.append(("Encoders pre-trained with labels, heads fitted on their features", taught))
    kinds.append(("Encoders fine-tuned with the labels of the training cells", tuned))
    kinds.append(("Supervised baselines, trained from scratch in the same folds", trained))
    return [(title, pairs) for title, pairs in kinds if pairs]


def _metric_row(
    evaluation: Evaluation, pair: Pair, metrics: Sequence[str], best: dict[str, dict[str, float] | None]
) -> list[Field]:
    fields = [Field(pair[0]), Field(pair[1])]
    for metric in metrics:
        score, winner = evaluation.score(pair, metric), best[metric]
        if score is None or winner is None:
            fields.append(Field(NO_VALUE))
            continue
        mark = "≈" if score is not winner and _overlap(score, winner) else ""
        fields.append(Field(number(score["mean"]), interval(score), score is winner, mark, float(score["mean"])))
    return fields


def _best(evaluation: Evaluation, metric: str) -> dict[str, float] | None:
    scores = [score for pair in evaluation.pairs if (score := evaluation.score(pair, metric))]
    if not scores:
        return None
    choose = min if metric in _LOWER_IS_BETTER else max
    return choose(scores, key=lambda score: score["mean"])


def _overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    if None in (a.get("low"), a.get("high"), b.get("low"), b.get("high")):
        return False
    return a["low"] <= b["high"] and b["low"] <= a["high"]


def _class_row(row: dict[Hashable, Any]) -> list[Field]:
    scores = []
    for name in _PER_CLASS:
        score = {"mean": row[name], "low": row.get(f"{name}_low"), "high": row.get(f"{name}_high")}
        known = {key: None if value is None or math.isnan(value) else float(value) for key, value in score.items()}
        scores.append(Field(number(known["mean"]), interval(known), value=known["mean"]))
    return [Field(str(row["class"])), *scores, Field(f"{row['support']:,}")]
