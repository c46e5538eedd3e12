from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from leukoscope.common.errors import InputError
from leukoscope.common.files import read_json
from leukoscope.report.drawing import FAINT, HAIR, Picture, colour, figure, keep, marker
from leukoscope.report.tables import NO_VALUE, Field, Group, Table, number
from leukoscope.scores.shift import REMEDIED

SHOWN = {
    "accuracy": "Accuracy",
    "f1_macro": "F1, averaged over classes with equal weight,",
    "ece": "Calibration error (ECE)",
}
_AS_THEY_COME = "as they come"


@dataclass(frozen=True)
class Shifted:
    """A whole run folder of ``leukoscope shift``: its results, settings and provenance."""

    run: Path
    results: dict[str, Any]

    @classmethod
    def open(cls, run: Path) -> "Shifted":
        """Read ``results.json``.

        Raises:
            InputError: when ``run`` is no whole run folder of a shift.
        """
        if not (run / "results.json").is_file() or "drop" not in (results := read_json(run / "results.json")):
            raise InputError(f"{run}: not a finished run of leukoscope shift")
        return cls(run, results)

    @property
    def heads(self) -> list[str]:
        """The heads, in the order in which they were asked for."""
        return list(dict.fromkeys(head for heads in self.results["drop"].values() for head in heads))

    @property
    def encoders(self) -> list[str]:
        """The encoders without their remedies, the best of the first head on new cells first."""
        drops = self.results["drop"]
        plain = [name for name in drops if REMEDIED not in name]
        return sorted(plain, key=lambda name: -(drops[name][self.heads[0]]["accuracy"]["new"] or 0.0))

    @property
    def remedies(self) -> list[str]:
        """What was done about the new cells, without labels."""
        return sorted({name.partition(REMEDIED)[2] for name in self.results["drop"]} - {""})

    def tried(self, encoder: str) -> dict[str, str]:
        """The names of an encoder's results by remedy, the cells as they come first."""
        names = {_AS_THEY_COME: encoder} | {remedy: f"{encoder}{REMEDIED}{remedy}" for remedy in self.remedies}
        return {remedy: name for remedy, name in names.items() if name in self.results["drop"]}


def draw_drop(shifted: Shifted, folder: Path) -> Picture:
    """Accuracy on new cells with its interval, as they come and by each remedy, beside that on known ones."""
    heads, encoders = shifted.heads, shifted.encoders
    labels = [_AS_THEY_COME, *shifted.remedies]
    with figure(9.0, 1.0 + (0.28 + 0.16 * len(labels)) * len(encoders)) as drawn:
        panels = drawn.subplots(1, len(heads), sharex=True, sharey=True, squeeze=False)[0]
        for axes, head in zip(panels, heads, strict=True):
            for place, encoder in enumerate(encoders):
                _row(axes, shifted, encoder, head, place, labels)
            axes.set_yticks(range(len(encoders)), encoders)
            axes.set_ylim(len(encoders) - 0.5, -0.5)
            axes.set(title=head, xlabel="accuracy")
            axes.grid(axis="x", color=HAIR, linewidth=0.6)
            axes.set_axisbelow(True)
        legend = {label: mark for axes in panels for mark, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        drawn.legend(list(legend.values()), list(legend), loc="outside lower center", ncols=len(legend))
        first = [(name, shifted.results["drop"][name][heads[0]]["accuracy"]) for name in encoders]
        told = ", ".join(f"{name} {number(each['known'])} to {number(each['new'])}" for name, each in first)
        return keep(
            drawn,
            folder,
            "drop",
            alt=f"Accuracy of {heads[0]} heads on known and on new cells: {told}.",
            caption="Accuracy of heads fitted on known cells: on known cells held out (hollow) and on new ones, with "
            "95 % bootstrap intervals.",
        )


def drop_table(shifted: Shifted, metric: str) -> Table:
    """A metric on known and on new cells, and the drop with its interval, by head, encoder and remedy."""
    groups = []
    for head in shifted.heads:
        rows = []
        for encoder in shifted.encoders:
            for remedy, name in shifted.tried(encoder).items():
                found = shifted.results["drop"][name][head][metric]
                drop = Field(_signed(found["drop"]), _between(found), value=found["drop"])
                rows.append(
                    [Field(encoder), Field(remedy), *(Field(number(found[key])) for key in ("known", "new")), drop]
                )
        groups.append(Group(head, rows))
    return Table(
        f"drop-{metric}",
        f"{SHOWN[metric]} on known and new cells, and the drop between them with its 95 % interval.",
        ["encoder", "new cells", "known", "new", "drop"],
        groups,
        text_columns=2,
        note="A drop below zero means that the probabilities are further from the truth on the new cells."
        if metric == "ece"
        else "The interval resamples both sets, each by its own groups.",
    )


def _row(axes: Axes, shifted: Shifted, encoder: str, head: str, place: int, labels: list[str]) -> None:
    drops, scores = shifted.results["drop"], shifted.results["scores"]["new"]
    tried = shifted.tried(encoder)
    known = drops[encoder][head]["accuracy"]["known"]
    axes.plot(known, place, "o", mfc="white", mec=FAINT, markersize=5.5, label="known cells", linestyle="none")
    offsets = np.linspace(-0.25, 0.25, len(labels)) if len(labels) > 1 else np.zeros(1)
    for index, (label, offset) in enumerate(zip(labels, offsets, strict=True)):
        if label not in tried:
            continue
        score = scores[tried[label]][head]["accuracy"]
        spread = None
        if score["low"] is not None:
            spread = [[max(0.0, score["mean"] - score["low"])], [max(0.0, score["high"] - score["mean"])]]
        axes.errorbar(
            score["mean"],
            place + offset,
            xerr=spread,
            color=colour(index),
            marker=marker(index),
            markersize=4,
            elinewidth=0.8,
            linestyle="none",
            label=f"new cells, {label}",
        )


def _signed(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value:+.3f}"


def _between(found: dict[str, float | None]) -> str:
    return NO_VALUE if found["low"] is None else f"{found['low']:+.3f} to {found['high']:+.3f}"
