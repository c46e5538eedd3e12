from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from leukoscope.bags.reading import SUSPECT
from leukoscope.report.cohort import Cohort, mean_curves
from leukoscope.report.drawing import FAINT, HAIR, Picture, colour, figure, keep, light_grid, marker, slug
from leukoscope.report.evaluation import Pair
from leukoscope.report.maps import MEANS_NOTHING
from leukoscope.report.scatter import Colouring, dots, legend, panels, scatter

_POINTS = np.linspace(0, 1, 101)
_MOST_CURVES = 8
_MOST_KINDS = 14


def draw_curves(cohort: Cohort, folder: Path) -> Picture:
    """Mean ROC and precision-recall curves of each encoder's best model, with their spread over folds and seeds.

    Figure 3 of aml-ssl-mil. Curves of single runs are averaged over classes, one class against all others.
    """
    pairs = cohort.leaders[:_MOST_CURVES]
    with figure(9.0, 4.3) as drawn:
        for axes, kind in zip(drawn.subplots(1, 2), ("roc", "pr"), strict=True):
            for index, pair in enumerate(pairs):
                runs = mean_curves(cohort, pair, kind, _POINTS)
                if not len(runs):
                    continue
                mean, sd = runs.mean(axis=0), runs.std(axis=0)
                axes.plot(_POINTS, mean, color=colour(index), label=" ".join(pair))
                axes.fill_between(
                    _POINTS, (mean - sd).clip(0), (mean + sd).clip(max=1), color=colour(index), alpha=0.15, linewidth=0
                )
            if kind == "roc":
                axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle="--")
                axes.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
            else:
                axes.set(title="Precision and recall", xlabel="recall", ylabel="precision")
            axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
            light_grid(axes)
        drawn.legend(*drawn.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(pairs), 3))
        return keep(
            drawn,
            folder,
            "curves",
            alt=f"Mean ROC and precision-recall curves of {', '.join(' '.join(pair) for pair in pairs)}.",
            caption="Mean over folds and seeds of curves of one class against all others, averaged over classes; bands "
            "are one standard deviation. The best model with attention of each encoder.",
        )


def draw_learning(cohort: Cohort, folder: Path) -> Picture | None:
    """ROC AUC against the number of training patients, the last being whole training folds; None without a curve."""
    found = pd.DataFrame(cohort.results.get("learning_curve", []))
    if found.empty:
        return None
    training = cohort.evaluation.folds
    assert training is not None
    whole = int((training["role"] == "train").groupby(training["fold"]).sum().mean())
    heads = list(dict.fromkeys(found["head"]))
    with figure(9.0, 3.4) as drawn:
        panels_ = drawn.subplots(1, len(heads), sharey=True, squeeze=False)[0]
        for axes, head in zip(panels_, heads, strict=True):
            for index, (encoder, own) in enumerate(found[found["head"] == head].groupby("encoder", sort=False)):
                full = cohort.results["runs"][encoder][head]["roc_auc_macro"]
                x = [*own["patients"], whole]
                y, sd = [*own["roc_auc_macro"], full["mean"]], [*own["roc_auc_macro_sd"], full["sd"]]
                axes.errorbar(x, y, yerr=sd, color=colour(index), marker=marker(index), markersize=4, label=encoder)
            axes.axhline(0.5, color=FAINT, linewidth=0.8, linestyle="--")
            axes.set(title=head, xlabel="training patients")
            light_grid(axes)
        panels_[0].set_ylabel("ROC AUC, macro")
        drawn.legend(*panels_[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        return keep(
            drawn,
            folder,
            "learning-curve",
            alt=f"ROC AUC against the number of training patients, {found['patients'].min()} to {whole}.",
            caption="ROC AUC by the number of training patients: mean and standard deviation over folds and draws (on "
            "the right over folds and seeds). The test patients are the same throughout.",
        )


def draw_kinds(cohort: Cohort, folder: Path) -> Picture | None:
    """Mean attention of each kind of cell, by the class of the patients (figure 4 of aml-ssl-mil).

    None where no kinds are known or no model has attention.
    """
    found = pd.DataFrame(cohort.results["reading"].get("kinds", []))
    if found.empty:
        return None
    found = found[found["kind"] != SUSPECT]
    pairs, classes = cohort.leaders[:4], cohort.evaluation.classes
    order = found.groupby("kind")["attention"].max().sort_values(ascending=False).index[:_MOST_KINDS]
    columns = min(2, len(pairs))
    rows = -(-len(pairs) // columns)
    with figure(9.0, rows * (1.2 + 0.22 * len(order) + 0.06 * len(order) * len(classes))) as drawn:
        grid = drawn.subplots(rows, columns, squeeze=False, sharey=True, sharex=True)
        for axes, pair in zip(grid.flat, pairs, strict=False):
            _kinds(axes, found[(found["encoder"] == pair[0]) & (found["head"] == pair[1])], list(order), classes)
            axes.set_title(" ".join(pair))
        for axes in grid.flat[len(pairs) :]:
            axes.set_visible(False)
        drawn.legend(
            *grid.flat[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=min(len(classes), 4),
            title="patients of class",
        )
        top = found.sort_values("attention", ascending=False).iloc[0]
        return keep(
            drawn,
            folder,
            "attention-by-kind",
            alt=f"Mean attention by kind of cell; most, {top['attention']:.1f} times an even share, is on "
            f"{top['kind']} in patients of class {top['diagnosis']} by {top['encoder']} {top['head']}.",
            caption="Attention of each kind of cell to its patient's own class, as a multiple of an even share "
            "(dashed): mean over the test patients of a class, bars one standard deviation over patients.",
        )


def _kinds(axes: Axes, found: pd.DataFrame, order: list[str], classes: list[str]) -> None:
    offsets = np.linspace(-0.3, 0.3, len(classes)) if len(classes) > 1 else np.zeros(1)
    for index, (name, offset) in enumerate(zip(classes, offsets, strict=True)):
        own = found[found["diagnosis"] == name].set_index("kind").reindex(order)
        axes.errorbar(
            own["attention"],
            np.arange(len(order)) + offset,
            xerr=own["sd"].fillna(0.0),
            color=colour(index),
            marker=marker(index),
            markersize=4.5,
            linestyle="none",
            elinewidth=0.8,
            label=name,
        )
    axes.axvline(1.0, color=FAINT, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set(xlabel="attention, 1 is an even share")
    axes.grid(axis="x", color=HAIR, linewidth=0.6)
    axes.set_axisbelow(True)


def draw_cells(cells: pd.DataFrame, places: np.ndarray, pair: Pair, folder: Path) -> Picture:
    """The map of all cells (figure 5 of aml-ssl-mil) by kind, by the class of their patient, and those looked at most.

    Args:
        cells: ``kind, diagnosis, attention`` of each cell that the map holds.
        places: where they lie ``(n, 2)``.
        pair: whose features and whose attention.
        folder: where the figure is kept.
    """
    quarter = pd.qcut(cells["attention"].rank(method="first"), 4, labels=["least", "less", "more", "most"])
    colourings = [
        *([Colouring.of("kind", cells["kind"])] if cells["kind"].notna().any() else []),
        Colouring.of("class of the patient", cells["diagnosis"]),
        Colouring("attention, in quarters", quarter.astype(str).to_numpy(dtype=object), list(quarter.cat.categories)),
    ]
    with figure(9.0, 4.9) as drawn:
        for axes, colouring, width in panels(drawn, colourings, width=9.0):
            scatter(axes, places, colouring.values, colouring.names)
            legend(axes, colouring.names, width)
        return keep(
            drawn,
            folder,
            slug("map", *pair),
            alt=f"Map of {len(cells)} cells by kind, class of the patient and attention, features of {pair[0]}.",
            caption=f"UMAP of the features of {pair[0]}, {len(cells):,} cells; attention is that of {pair[1]} to the "
            f"class it called. {MEANS_NOTHING}",
            dpi=160,
        )


def draw_own_cells(places: np.ndarray, own: np.ndarray, attention: np.ndarray, folder: Path, name: str) -> Picture:
    """A patient's cells on the map of all, those of the tenth with most attention dark."""
    with figure(4.2, 4.2) as drawn:
        axes = drawn.subplots()
        dots(axes, places[~own], look="light")
        top = np.zeros(len(places), dtype=bool)
        where = np.flatnonzero(own)
        top[where[np.argsort(-attention[where])[: max(1, len(where) // 10)]]] = True
        values = np.where(top, "most attention", "others").astype(object)
        scatter(axes, places[own], values[own], ["others", "most attention"], look="strong")
        legend(axes, ["others", "most attention"], 4.2)
        return keep(
            drawn,
            folder,
            name,
            alt=f"{own.sum()} cells of the patient on the map of {len(places)}.",
            caption=f"The patient's {own.sum():,} cells on the map of all patients' (grey). {MEANS_NOTHING}",
            dpi=120,
        )
