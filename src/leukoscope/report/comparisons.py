from collections.abc import Mapping
from typing import Any

from leukoscope.report.evaluation import Evaluation, Pair
from leukoscope.report.tables import NO_VALUE, Field, Group, Table, metric_name

_TESTS = ("paired_t", "corrected_resampled_t")
_LEVEL = 0.05
_MOST_ROWS = 40


def significance_table(evaluation: Evaluation, leader: Pair) -> Table | None:
    """Paired comparisons over folds, both tests side by side; None where nothing could be compared.

    Where there are many, only those that include the ``leader`` are kept.
    """
    tests = evaluation.results.get("significance") or []
    if not tests:
        return None
    found: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for test in tests:
        found.setdefault((test["metric"], test["a"], test["b"]), {})[test["test"]] = test
    shown = found if len(found) <= _MOST_ROWS else {key: both for key, both in found.items() if "/".join(leader) in key}
    metrics = dict.fromkeys(metric for metric, _, _ in shown)
    groups = [
        Group(metric_name(metric), [_row(a, b, both) for (m, a, b), both in shown.items() if m == metric])
        for metric in metrics
    ]
    left_out = (
        f" Of {len(found):,} comparisons those with {' · '.join(leader)} are shown; results.json holds all."
        if len(shown) < len(found)
        else ""
    )
    return Table(
        "significance",
        "Paired comparisons over the same folds: mean difference a − b, and the p of two tests, each as it is and "
        "after Holm’s correction over all comparisons of a metric.",
        ["a", "b", "difference", "paired t", "Holm", "Nadeau-Bengio", "Holm"],
        groups,
        text_columns=2,
        note="Bold: below 0.05 after Holm. Folds share training cells, so the plain paired t-test finds too much; the "
        f"Nadeau-Bengio correction allows for that and is the one to trust.{left_out}",
    )


def p_value(value: float | None) -> str:
    """A p-value as papers print it."""
    if value is None:
        return NO_VALUE
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _row(a: str, b: str, both: Mapping[str, Mapping[str, Any]]) -> list[Field]:
    difference = next(iter(both.values()))["difference"]
    fields = [Field(_named(a)), Field(_named(b)), Field(f"{difference:+.3f}".replace("-", "−"))]
    for test in _TESTS:
        p, corrected = both.get(test, {}).get("p"), both.get(test, {}).get("p_corrected")
        fields.append(Field(p_value(p)))
        fields.append(Field(p_value(corrected), strong=corrected is not None and corrected < _LEVEL))
    return fields


def _named(pair: str) -> str:
    return pair.replace("/", "\u00a0·\u00a0")
