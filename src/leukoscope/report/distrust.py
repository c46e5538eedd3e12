from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leukoscope.report.confusion import worst_confusions
from leukoscope.report.evaluation import LEADING_METRIC, Evaluation, Pair
from leukoscope.scores.significance import frozen

_FEW_CELLS = 50
_FEW_GROUPS = 20
_LOW_RECALL = 0.7
_WIDE = 0.05
_HIGH_ECE = 0.05


@dataclass(frozen=True)
class Doubt:
    """One reason to distrust the numbers: what it is, and what it means for a reader."""

    title: str
    text: str


def doubts(evaluation: Evaluation, leader: Pair, *, audit: Mapping[str, Any] | None) -> list[Doubt]:
    """Reasons to distrust this evaluation, drawn from its own facts, gravest first.

    Args:
        evaluation: the run.
        leader: the encoder and head that the text is about.
        audit: what :func:`leukoscope.cells.audit.audit` found, as a dict; None where no audit was given.
    """
    return [
        *_leaks(audit),
        *_overlap(evaluation),
        *_grouping(evaluation),
        *_classes(evaluation, leader),
        *_certainty(evaluation, leader),
        *_baselines(evaluation, leader),
        *_choice(evaluation),
    ]


def _leaks(audit: Mapping[str, Any] | None) -> Iterator[Doubt]:
    if audit is None:
        yield Doubt(
            "No audit was given.",
            "Whether cells repeat, carry two labels or stand on both sides of a fold is not known to this page; "
            "'leukoscope audit' tells.",
        )
    elif audit.get("spoiled"):
        yield Doubt(
            "The audit calls this evaluation spoiled.",
            "What it found is listed under Cells; scores are likely too high until it is mended.",
        )


def _overlap(evaluation: Evaluation) -> Iterator[Doubt]:
    # A fine-tuned encoder may stand beside the frozen one that it began as, which then says this for both.
    names = dict.fromkeys(name for name, head in evaluation.pairs if frozen(name, head) or name in evaluation.origins)
    seen = {name: evaluation.origins.get(name, {}).get("seen_in_pretraining", "unknown") for name in names}
    unknown = [name for name, what in seen.items() if what == "unknown"]
    if unknown:
        yield Doubt(
            f"It is not known which cells {listed(unknown)} saw in pre-training.",
            "If cells tested here were among them, features of new cells may be worse than these.",
        )
    for name, what in seen.items():
        if what in ("unknown", "none", "training folds"):
            continue
        which = "these very cells" if what == "all" else f"{what} of these cells"
        if evaluation.origins[name].get("with_labels"):
            yield Doubt(
                f"{name} was pre-trained with the labels of {which}.",
                "Its scores are no test: it has been told the answers. Let a study teach it inside the training folds.",
            )
        else:
            yield Doubt(
                f"{name} was pre-trained on {which}.",
                "It never saw their labels, but features of new cells may be worse than these.",
            )


def _grouping(evaluation: Evaluation) -> Iterator[Doubt]:
    if not evaluation.group:
        yield Doubt(
            "Folds do not follow patients.",
            "Cells of one donor or slide may be on both sides of a fold, and intervals resample cells, not patients: "
            "nothing here says how well a new patient would be served.",
        )
        return
    units = int(evaluation.results.get("intervals", {}).get("units", 0))
    if 0 < units < _FEW_GROUPS:
        yield Doubt(
            f"Only {units} groups ({evaluation.group}).",
            "Intervals that resample so few are rough, and mostly too narrow.",
        )


def _classes(evaluation: Evaluation, leader: Pair) -> Iterator[Doubt]:
    small = {name: count for name, count in evaluation.class_counts.items() if count < _FEW_CELLS}
    if small:
        yield Doubt(
            f"Few cells: {listed([f'{name} ({count})' for name, count in small.items()])}.",
            f"Below {_FEW_CELLS} cells a class, one cell moves its recall by two points or more.",
        )
    counts = evaluation.confusion(leader)
    recall = np.diag(counts) / np.maximum(counts.sum(axis=1), 1)
    low = [
        f"{name} ({value:.2f})" for name, value in zip(evaluation.classes, recall, strict=True) if value < _LOW_RECALL
    ]
    if low:
        yield Doubt(
            f"Low recall: {listed(low)}.",
            f"Counts of these classes in a sample would be off. {worst_confusions(counts, evaluation.classes)}",
        )


def _certainty(evaluation: Evaluation, leader: Pair) -> Iterator[Doubt]:
    name = " with ".join(leader)
    score = evaluation.score(leader, LEADING_METRIC)
    if score and score.get("low") is not None and score["high"] - score["low"] > _WIDE:
        yield Doubt(
            f"Wide interval: {score['low']:.3f} to {score['high']:.3f}.",
            f"Balanced accuracy of {name} is known to {100 * (score['high'] - score['low']):.0f} points only.",
        )
    ece = evaluation.score(leader, "ece")
    if ece and ece["mean"] > _HIGH_ECE:
        yield Doubt(
            f"Probabilities are off: ECE {ece['mean']:.3f}.",
            f"The probabilities of {name} should not be read as chances without calibration.",
        )


def _baselines(evaluation: Evaluation, leader: Pair) -> Iterator[Doubt]:
    counts = evaluation.class_counts
    total = max(sum(counts.values()), 1)
    largest = max(counts, key=lambda name: counts[name])
    share = counts[largest] / total
    accuracy = evaluation.score(leader, "accuracy")
    reached = f"; {' with '.join(leader)} reaches {accuracy['mean']:.3f}" if accuracy else ""
    yield Doubt(
        "Accuracy has a floor.",
        f"Always answering {largest} gives accuracy {share:.3f}{reached}. Balanced accuracy of any guess without "
        f"looking is {1 / len(counts):.3f}.",
    )
    if all(frozen(*pair) for pair in evaluation.pairs):
        yield Doubt(
            "No supervised baseline stands beside the frozen encoders.",
            "Whether a network trained from scratch on the same labels would do as well is open.",
        )


def _choice(evaluation: Evaluation) -> Iterator[Doubt]:
    pairs = len(evaluation.pairs)
    if pairs > 1:
        yield Doubt(
            f"The best of {pairs} was picked after the fact.",
            "The largest of several means is biased upwards; the comparisons under Significance are corrected for "
            "their number, the mean of the best itself is not.",
        )
    if evaluation.predictions["seed"].nunique() == 1:
        yield Doubt(
            "One seed.", "The spread over folds holds no spread over random initialisations of heads or encoders."
        )


def listed(words: list[str]) -> str:
    """``words`` as an enumeration."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
