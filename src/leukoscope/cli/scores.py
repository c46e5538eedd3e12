from collections.abc import Mapping
from typing import Any

from leukoscope.cli.output import say, say_table

_SHOWN = ("accuracy", "balanced_accuracy", "f1_macro")
_OF_PATIENTS = {
    "f1_macro": "F1",
    "roc_auc_macro": "ROC AUC",
    "pr_auc_macro": "PR AUC",
    "balanced_accuracy": "balanced accuracy",
}


def say_scores(title: str, results: Mapping[str, Any]) -> None:
    """Print an evaluation's scores: one row for each encoder and head, with 95 % intervals."""
    say(f"\n{title}: {results['n']} cells, {len(results['classes'])} classes, {results['folds']} folds")
    rows = []
    origins = results.get("encoders", {})
    for encoder, heads in results["scores"].items():
        name = f"{encoder} (with labels)" if origins.get(encoder, {}).get("with_labels") else encoder
        for head, metrics in heads.items():
            rows.append([f"{name}, {head}", *(_interval(metrics[name]) for name in _SHOWN)])
    say_table(["", *(name.replace("_", " ") for name in _SHOWN)], rows)


def say_cohort(title: str, results: Mapping[str, Any]) -> None:
    """Print the scores of models of bags: mean and standard deviation over folds and seeds, as papers give them."""
    classes = ", ".join(f"{count} {name}" for name, count in results["bags"].items())
    say(f"\n{title}: {results['n']} patients ({classes}), {results['folds']} folds, {len(results['seeds'])} seeds")
    rows = [
        [f"{encoder}, {head}", *(_spread(metrics[name]) for name in _OF_PATIENTS)]
        for encoder, heads in results["runs"].items()
        for head, metrics in heads.items()
    ]
    say_table(["", *_OF_PATIENTS.values()], rows)


def say_samples(samples: Mapping[str, Mapping[str, Any]]) -> None:
    """Print each sample's counts beside its true composition, where that is known."""
    for name, sample in samples.items():
        say(f"\nsample {name}: classified and counted")
        rows, known = [], sum(sample["truth"].values())
        for kind, found in sample["classes"].items():
            true = f"{100 * sample['truth'].get(kind, 0) / known:.1f}" if known else "-"
            low, high = (100 * limit for limit in found["composition"])
            corrected = f"{100 * found['corrected_proportion']:.1f} [{low:.1f}, {high:.1f}]"
            rows.append([kind, found["count"], f"{100 * found['proportion']:.1f}", corrected, true])
        say_table(["", "called", "%", "corrected % [95 %]", "true %"], rows)
        if sample["set_aside"]:
            told = ", ".join(f"{count} {reason}" for reason, count in sample["set_aside"].items())
            say(f"set aside: {told}")


def _interval(metric: Mapping[str, float]) -> str:
    return f"{metric['mean']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]"


def _spread(metric: Mapping[str, float | None]) -> str:
    mean, sd = ("-" if metric[key] is None else f"{metric[key]:.2f}" for key in ("mean", "sd"))
    return f"{mean} ± {sd}"
