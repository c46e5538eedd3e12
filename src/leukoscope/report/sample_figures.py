from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.differential.classifier import ClassifierInfo
from leukoscope.differential.novelty import NoveltyLimits
from leukoscope.differential.ranges import ReferenceRanges
from leukoscope.differential.sample import Sample
from leukoscope.explain.discriminants import discriminant_plane
from leukoscope.report.drawing import FAINT, HAIR, INK, PALETTE, Picture, figure, keep, keep_printable
from leukoscope.report.scatter import dots, scatter, shared_legend

_WIDTH = 7.2  # inches: the text of an A4 page
_MOST_REFERENCES = 4000
_FEW_CELLS = 10  # in a bin: too few to draw


def draw_differential(differential: dict[str, Any], ranges: ReferenceRanges, folder: Path) -> Picture:
    """Each class's share of the leukocytes with its interval, the raw count and the reference range behind them."""
    shown = [(name, row) for name, row in differential["classes"].items() if row["leukocytes"]]
    with figure(_WIDTH, 0.9 + 0.32 * len(shown)) as drawn:
        axes = drawn.subplots()
        for place, (name, row) in enumerate(reversed(shown)):
            limits, share = ranges.of(name, "percent"), row["leukocytes"]
            if limits is not None:
                axes.barh(place, limits.high - limits.low, left=limits.low, height=0.62, color=HAIR, zorder=0)
            axes.plot(
                [100 * share["low"], 100 * share["high"]], [place, place], color=PALETTE[0], linewidth=2, zorder=2
            )
            axes.plot(100 * row["proportion"], place, "o", markerfacecolor="white", markeredgecolor=FAINT, zorder=1)
            axes.plot(100 * share["value"], place, "o", color=PALETTE[0], zorder=3)
        axes.set_yticks(range(len(shown)), [name for name, _ in reversed(shown)])
        axes.set_xlim(left=0)
        axes.set_xlabel("share of the leukocytes, %")
        axes.tick_params(axis="y", length=0)
        told = ", ".join(f"{name} {100 * row['leukocytes']['value']:.1f} %" for name, row in shown)
        caption = (
            "Share of the leukocytes, corrected, with its 95 % interval for the patient; hollow: as called, of all "
            "cells. Shaded: the reference range."
        )
        return keep(drawn, folder, "differential", alt=f"Differential: {told}", caption=caption)


def draw_plane(sample: Sample, folder: Path) -> Picture | None:
    """The sample's cells over those that the classifier learned from; None where it keeps none, or of one class."""
    reference = sample.classifier.reference
    if reference is None or len(np.unique(reference.y)) < 2:
        return None
    known, new = discriminant_plane(reference, sample.features.x)
    kept = np.random.default_rng(0).permutation(len(known))[:_MOST_REFERENCES]
    names = list(sample.classes)
    called, novel = sample.table["predicted"].to_numpy(dtype=object), sample.table["novel"].to_numpy(dtype=bool)
    with figure(_WIDTH, 3.9) as drawn:
        left, right = drawn.subplots(1, 2)
        left.set_title("training cells by class")
        scatter(left, known[kept], np.array(names, dtype=object)[reference.y[kept]], names)
        right.set_title("this sample as called; black: novel")
        scatter(right, known[kept], np.full(len(kept), names[0], dtype=object), names, look="light")
        scatter(right, new, called, names, look="strong")
        if novel.any():
            dots(right, new[novel])
        shared_legend(drawn, names, _WIDTH)
        caption = (
            "The plane that parts the training cells’ classes best (linear discriminants); the same for every sample "
            "of this classifier."
        )
        return keep_printable(drawn, folder, "plane", alt="Cells of the sample over those trained on", caption=caption)


def draw_novelty(table: pd.DataFrame, limits: NoveltyLimits | None, folder: Path) -> Picture | None:
    """How far the cells are from all that was learned; None where that is not known."""
    if limits is None:
        return None
    distance = table["novelty"].to_numpy(dtype=float)
    with figure(_WIDTH, 1.9) as drawn:
        axes = drawn.subplots()
        edges = np.linspace(0, max(1.2, float(distance.max()) * 1.02), 61)
        axes.hist(distance, bins=list(edges), color=PALETTE[0])
        axes.axvline(1, color=INK, linewidth=1)
        axes.set_xlabel("distance to the tenth nearest training cell (1: the limit)")
        axes.set_ylabel("cells")
        caption = (
            f"Novelty of every cell. {100 * limits.false_alarm:g} % of known cells lie beyond the limit: it was set on "
            f"{limits.held_out:,} cells held out."
        )
        return keep(drawn, folder, "novelty", alt="Histogram of novelty", caption=caption)


def draw_calibration(info: ClassifierInfo, folder: Path) -> Picture | None:
    """How reliable the classifier's probabilities are, before and after calibration; None where its bundle is older."""
    if not info.reliability:
        return None
    with figure(3.2, 3.0) as drawn:
        axes = drawn.subplots()
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
        for (when, bins), drawn_in in zip(info.reliability.items(), (FAINT, PALETTE[0]), strict=True):
            shown = np.array([(said, right) for cells, said, right in bins if cells >= _FEW_CELLS]).reshape(-1, 2)
            axes.plot(*shown.T, color=drawn_in, marker="o", markersize=3, label=f"{when} calibration")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="probability given", ylabel="share right")
        axes.legend(loc="upper left")
        before, after = (info.cross_validated[key] for key in ("ece", "ece_calibrated"))
        caption = (
            "Cells that the head had not seen, by the probability of the class they were called. Expected calibration "
            f"error {100 * before:.1f} % before and {100 * after:.1f} % after calibration."
        )
        return keep(drawn, folder, "calibration", alt="Reliability diagram", caption=caption)
