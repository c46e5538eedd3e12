from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from leukoscope.report.drawing import Picture, colour, figure, keep, light_grid, marker
from leukoscope.report.evaluation import Evaluation
from leukoscope.report.tables import NO_VALUE, Field, Group, Table, number

_METRIC = "balanced_accuracy"
_SPREAD = 1.035  # how far apart series stand, on a logarithmic axis, so that their bars can be told apart


def draw_few_labels(evaluation: Evaluation, folder: Path) -> Picture | None:
    """Balanced accuracy over the number of labelled cells, a panel a head; None where few labels were not tried.

    Bars are one standard deviation over folds and draws.
    """
    found = evaluation.results.get("few_labels")
    if not found:
        return None
    counts, heads, encoders = _axes(found)
    with figure(4.5 * min(2, len(heads)), 3.4 * -(-len(heads) // 2) + 0.3) as drawn:
        grid = drawn.subplots(-(-len(heads) // 2), min(2, len(heads)), squeeze=False, sharey=True)
        for axes, head in zip(grid.flat, heads, strict=False):
            for index, encoder in _with(found, head, encoders):
                _curve(axes, found, counts, (encoder, head), index, len(encoders))
            axes.set_title(head)
            axes.set(xscale="log", xlabel=_unit(found), ylabel="balanced accuracy" if axes in grid[:, 0] else "")
            axes.set_xticks(counts, [f"{count:,}" for count in counts])
            axes.xaxis.set_minor_locator(NullLocator())
            light_grid(axes)
        for axes in grid.flat[len(heads) :]:
            axes.set_visible(False)
        shown = {
            label: line for axes in grid.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        drawn.legend(list(shown.values()), list(shown), loc="outside lower center", ncols=min(len(shown), 5))
        told = [encoder for _, encoder in _with(found, heads[0], encoders)]
        ends = ", ".join(f"{encoder} {_ends(found, counts, encoder, heads[0])}" for encoder in told)
        return keep(
            drawn,
            folder,
            "few-labels",
            alt=f"Balanced accuracy of {heads[0]} heads from {counts[0]} to {counts[-1]} labelled cells: {ends}.",
            caption="Balanced accuracy of heads fitted on few labelled cells of each training fold, over all its test "
            "cells. Points: mean over folds and draws; bars: one standard deviation.",
        )


def few_labels_table(evaluation: Evaluation) -> Table | None:
    """Accuracy by encoder, head and number of labelled cells; None where few labels were not tried."""
    found = evaluation.results.get("few_labels")
    if not found:
        return None
    counts, heads, encoders = _axes(found)
    rows = [
        [Field(encoder), Field(head), *(_field(found["scores"][str(count)][encoder][head]) for count in counts)]
        for head in heads
        for _, encoder in _with(found, head, encoders)
    ]
    return Table(
        "few-labels",
        f"Accuracy by {_unit(found)}: mean and, below it, standard deviation over folds and draws.",
        ["encoder", "head", *(f"{count:,}" for count in counts)],
        [Group("", rows)],
        text_columns=2,
        note="tables/few_labels.csv holds balanced accuracy, F1, ROC AUC and ECE as well.",
    )


def _axes(found: dict[str, Any]) -> tuple[list[int], list[str], list[str]]:
    """Counts, heads and encoders."""
    scores = found["scores"]
    counts = sorted(int(count) for count in scores)
    encoders = list(scores[str(counts[0])])
    heads = dict.fromkeys(head for encoder in encoders for head in scores[str(counts[0])][encoder])
    return counts, list(heads), encoders


def _with(found: dict[str, Any], head: str, encoders: list[str]) -> list[tuple[int, str]]:
    """The encoders that ``head`` was tried on, with their places; a fine-tuned network has a head of its own."""
    scores = next(iter(found["scores"].values()))
    return [(place, encoder) for place, encoder in enumerate(encoders) if head in scores[encoder]]


def _unit(found: dict[str, Any]) -> str:
    return "labelled cells of every class" if found["per_class"] else "labelled cells"


def _curve(axes: Axes, found: dict[str, Any], counts: list[int], pair: tuple[str, str], index: int, of: int) -> None:
    encoder, head = pair
    scores = [found["scores"][str(count)][encoder][head][_METRIC] for count in counts]
    places = [count * _SPREAD ** (index - (of - 1) / 2) for count in counts]
    axes.errorbar(
        places,
        [score["mean"] for score in scores],
        yerr=[score["sd"] or 0.0 for score in scores],
        color=colour(index),
        marker=marker(index),
        markersize=3.5,
        elinewidth=0.8,
        capsize=1.5,
        label=encoder,
    )


def _ends(found: dict[str, Any], counts: list[int], encoder: str, head: str) -> str:
    first, last = (found["scores"][str(count)][encoder][head][_METRIC]["mean"] for count in (counts[0], counts[-1]))
    return f"{first:.2f} to {last:.2f}"


def _field(scores: dict[str, Any]) -> Field:
    found = scores["accuracy"]
    spread = NO_VALUE if found["sd"] is None else f"± {found['sd']:.3f}"
    return Field(number(found["mean"]), spread, value=found["mean"])
