from pathlib import Path
from typing import Any

import numpy as np

from leukoscope.common.errors import InputError
from leukoscope.common.files import read_json
from leukoscope.common.settings import read_yaml
from leukoscope.report import context
from leukoscope.report.drawing import FAINT, HAIR, Picture, colour, figure, keep, marker
from leukoscope.report.tables import NO_VALUE, Field, Group, Table, number
from leukoscope.report.template import write_run_page

_BATCH, _SANITY = ("batch", "Where a cell came from"), ("sanity", "The cell, or the database?")
_PROVENANCE = ("provenance", "Provenance")
_SETS = {"A": "{suspect} of {home}", "B": "others, elsewhere", "C": "others of {home}", "D": "{suspect}, elsewhere"}


def write_sanity_report(run: Path, *, title: str | None = None) -> Path:
    """Write ``report.html`` and ``figures/`` into the run folder of ``leukoscope sanity``; return the page's path.

    Raises:
        InputError: when ``run`` is no whole run folder of a sanity test.
    """
    if not (run / "results.json").is_file() or "batch" not in (results := read_json(run / "results.json")):
        raise InputError(f"{run}: not a finished run of leukoscope sanity")
    told, tested, recipe = results["batch"], results["sanity"], read_yaml(run / "recipe.yaml")
    folder = run / "figures"
    facts = [("cells", f"{sum(told['values'].values()):,}"), (told["column"], str(len(told["values"])))]
    if tested is not None:
        facts += [("class", str(recipe["class"])), ("at home in", str(recipe["home"]))]
    return write_run_page(
        run,
        "sanity.html.j2",
        title=title or f"The cell, or its {told['column']}?",
        facts=facts,
        sections=[_BATCH, *([_SANITY] if tested is not None else []), _PROVENANCE],
        column=told["column"],
        drawn_batch=_draw_batch(told, folder),
        batch=_batch_table(told),
        classes=_class_table(told),
        drawn_sanity=None if tested is None else _draw_sanity(tested["scores"], _names(recipe), folder),
        sanity=None if tested is None else _sanity_table(tested["scores"], _names(recipe)),
        sets=None if tested is None else _set_table(tested["counts"], _names(recipe)),
        provenance=context.provenance_of(run),
    )


def _names(recipe: dict[str, Any]) -> dict[str, str]:
    """What the four sets of the sanity test hold."""
    return {key: words.format(suspect=recipe["class"], home=recipe["home"]) for key, words in _SETS.items()}


def _draw_batch(told: dict[str, Any], folder: Path) -> Picture:
    """The accuracy at which the batch is told from each encoder's features, beside what the class alone tells."""
    scores = {name: found["accuracy"] for name, found in told["encoders"].items()}
    with figure(7.0, 1.1 + 0.32 * len(scores)) as drawn:
        axes = drawn.subplots()
        for place, score in enumerate(scores.values()):
            low, high = (score["mean"] if score[end] is None else score[end] for end in ("low", "high"))
            spread = [[max(0.0, score["mean"] - low)], [max(0.0, high - score["mean"])]]
            axes.errorbar(score["mean"], place, xerr=spread, color=colour(0), marker=marker(0), markersize=5)
        for name, value, style in (("the class alone", "from_label", "--"), ("the largest, always", "majority", ":")):
            axes.axvline(told[value], color=FAINT, linestyle=style, linewidth=1, label=name)
        axes.set_yticks(range(len(scores)), list(scores))
        axes.set_ylim(len(scores) - 0.5, -0.5)
        axes.set(xlim=(0, 1.02), xlabel=f"accuracy of {told['column']}")
        axes.grid(axis="x", color=HAIR, linewidth=0.6)
        axes.set_axisbelow(True)
        drawn.legend(loc="outside lower center", ncols=2)
        shown = ", ".join(f"{name} {number(score['mean'])}" for name, score in scores.items())
        return keep(
            drawn,
            folder,
            "batch",
            alt=f"Accuracy of telling {told['column']}: {shown}; from the class alone {number(told['from_label'])}.",
            caption=f"How well a linear probe tells {told['column']} from features, with 95 % bootstrap intervals. The "
            "lines: what can be told from the class alone, and by always naming the largest.",
        )


def _batch_table(told: dict[str, Any]) -> Table:
    rows = [
        [Field(name), *(_between(found[metric]) for metric in ("accuracy", "balanced_accuracy"))]
        for name, found in told["encoders"].items()
    ]
    rows += [
        [Field(name), Field(number(told[key]), value=told[key]), Field(NO_VALUE)]
        for name, key in (("the class alone", "from_label"), ("nothing (always the largest)", "majority"))
    ]
    return Table(
        "batch",
        f"{told['column']} told from features by a linear probe in cross-validation, and from the class.",
        ["told from", "accuracy", "balanced accuracy"],
        [Group("", rows)],
        note="Features that tell it far better than the class does carry the instrument, the stain or the slide.",
    )


def _class_table(told: dict[str, Any]) -> Table:
    rows = [
        [Field(name), Field(number(told[key]), value=told[key])]
        for name, key in ((f"{told['column']} alone", "label_from_batch"), ("nothing", "label_majority"))
    ]
    return Table(
        "class",
        "The class told without looking at a cell: accuracy.",
        ["told from", "accuracy"],
        [Group("", rows)],
        note=f"What a classifier could reach by knowing {told['column']} and nothing else.",
    )


def _draw_sanity(scores: dict[str, Any], names: dict[str, str], folder: Path) -> Picture:
    """Accuracy on the four sets, a panel for each encoder and head, a colour for each training."""
    trainings = list(scores)
    pairs = [(encoder, head) for encoder, heads in scores[trainings[0]].items() for head in heads]
    across = min(3, len(pairs))
    down = -(-len(pairs) // across)
    with figure(1.0 + 2.6 * across, 0.9 + 2.1 * down) as drawn:
        panels = drawn.subplots(down, across, squeeze=False, sharey=True).ravel()
        for axes, (encoder, head) in zip(panels, pairs, strict=False):
            for index, training in enumerate(trainings):
                found = scores[training][encoder][head]
                places = np.arange(len(found)) + (index - (len(trainings) - 1) / 2) * 0.38
                heights = [each["accuracy"] for each in found.values()]
                axes.bar(places, heights, 0.36, color=colour(index), label=f"fitted on {training}")
            axes.set_xticks(range(len(found)), list(found))
            axes.set(title=f"{encoder}, {head}", ylim=(0, 1))
            axes.grid(axis="y", color=HAIR, linewidth=0.6)
            axes.set_axisbelow(True)
        for axes in panels[len(pairs) :]:
            axes.set_axis_off()
        panels[0].set_ylabel("accuracy")
        drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(trainings))
        encoder, head = pairs[0]
        told = ", ".join(
            f"{name} {number(each['accuracy'])}" for name, each in scores[trainings[0]][encoder][head].items()
        )
        return keep(
            drawn,
            folder,
            "sanity",
            alt=f"Accuracy on the four sets; {encoder}, {head}, fitted on {trainings[0]}: {told}.",
            caption="Accuracy on "
            + ", ".join(f"{key} ({names[key]})" for key in scores[trainings[0]][encoder][head])
            + ". Heads fitted on A and B alone that fail on C and D know the database, not the cell.",
        )


def _sanity_table(scores: dict[str, Any], names: dict[str, str]) -> Table:
    trainings = list(scores)
    groups = [
        Group(
            f"{encoder}, {head}",
            [
                [Field(name), Field(names[name]), *(_spread(scores[each][encoder][head][name]) for each in trainings)]
                for name in sets
            ],
        )
        for encoder, heads in scores[trainings[0]].items()
        for head, sets in heads.items()
    ]
    return Table(
        "sanity",
        "Accuracy on the four sets by what heads were fitted on: mean over folds, and below it the standard deviation.",
        ["tested on", "cells", *(f"fitted on {training}" for training in trainings)],
        groups,
        text_columns=2,
    )


def _set_table(counts: dict[str, Any], names: dict[str, str]) -> Table:
    classes = list(dict.fromkeys(name for of in counts.values() for name in of))
    rows = [
        [Field(key), Field(names[key]), *(Field(f"{of.get(name, 0):,}") for name in classes)]
        for key, of in counts.items()
    ]
    return Table("sets", "Cells of each set and class.", ["set", "cells", *classes], [Group("", rows)], text_columns=2)


def _between(score: dict[str, float | None]) -> Field:
    ends = "" if score["low"] is None else f"{number(score['low'])} to {number(score['high'])}"
    return Field(number(score["mean"]), ends, value=score["mean"])


def _spread(score: dict[str, Any]) -> Field:
    sd = score["sd"]
    return Field(number(score["accuracy"]), "" if sd is None else f"± {number(sd)}", value=score["accuracy"])
