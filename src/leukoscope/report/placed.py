from pathlib import Path

import numpy as np
import pandas as pd

from leukoscope.report.drawing import Picture, figure, keep_printable, slug
from leukoscope.report.maps import MEANS_NOTHING
from leukoscope.report.scatter import Colouring, dots, legend, panels, scatter, shared_legend

_WIDTH = 7.2  # inches: the text of an A4 page
_METHODS = {"umap": "UMAP", "tsne": "t-SNE"}


def draw_training_map(cells: pd.DataFrame, name: str, method: str, folder: Path) -> Picture:
    """The map of one encoder by class, batch and patient: training cells, and new ones strong over them.

    Args:
        cells: what :func:`~leukoscope.explain.placing.lay_map` gave.
        name: the encoder.
        method: ``umap`` or ``tsne``.
        folder: where the figure is kept.
    """
    places, new = cells[["x", "y"]].to_numpy(), (cells["set"] == "new").to_numpy()
    colourings = [*_by_class(cells), *Colouring.origins(cells)]
    alone = [Colouring("nothing", np.full(len(cells), "cells", dtype=object), ["cells"])]
    with figure(_WIDTH, 4.6) as drawn:
        for axes, colouring, width in panels(drawn, colourings or alone, _WIDTH):
            values, names, zoom = colouring.values, colouring.names, min(1.0, width / (_WIDTH / 2))
            scatter(axes, places[~new], values[~new], names, look="light" if new.any() else "plain", zoom=zoom)
            if new.any():
                scatter(axes, places[new], values[new], names, look="strong", zoom=zoom)
            if colourings:
                legend(axes, names, width)
            else:
                axes.set_title("")
        by = ", ".join(colouring.title for colouring in colourings) or "nothing: no class, batch or patient is known"
        added = f", and {new.sum():,} new cells placed into it (strong points)" if new.any() else ""
        return keep_printable(
            drawn,
            folder,
            slug("map", name),
            alt=f"Map of the features of {name}, {len(cells)} cells, coloured by {by}.",
            caption=f"{_METHODS[method]} of the features of {name}, fitted on {(~new).sum():,} training cells{added}, "
            f"by {by}. {MEANS_NOTHING}",
        )


def draw_new_cells(cells: pd.DataFrame, name: str, method: str, folder: Path, *, patient: str | None) -> Picture | None:
    """New cells dark over the light training map, all of them and those of one ``patient``; None without new cells.

    After figure 2 of DinoBloom (Koch et al. 2024, arXiv:2404.05022).
    """
    places, new = cells[["x", "y"]].to_numpy(), (cells["set"] == "new").to_numpy()
    if not new.any():
        return None
    dark = {f"new cells: {new.sum():,}": new}
    if patient is not None:
        own = new & (cells["patient"].astype(str) == patient).to_numpy()
        dark[f"of patient {patient}: {own.sum():,}"] = own
    with figure(_WIDTH, 4.3 if len(dark) > 1 else 5.6) as drawn:
        for axes, (title, at) in zip(drawn.subplots(1, len(dark), squeeze=False)[0], dark.items(), strict=True):
            for colouring in _by_class(cells):
                scatter(axes, places[~new], colouring.values[~new], colouring.names, look="light")
            if not _by_class(cells):
                dots(axes, places[~new], look="light")
            dots(axes, places[at])
            axes.set_title(title)
        for colouring in _by_class(cells):
            shared_legend(drawn, colouring.names, _WIDTH)
        of_patient = f"; on the right only those of patient {patient}" if patient is not None else ""
        return keep_printable(
            drawn,
            folder,
            slug("new", name),
            alt=f"New cells dark over the light map of {name}{of_patient}.",
            caption=f"New cells (dark) in the {_METHODS[method]} of {name}, which was fitted on training cells alone "
            f"(light, by class){of_patient}. A cell unlike all training cells is placed too, beside the nearest of "
            f"them: a place is no diagnosis. {MEANS_NOTHING}",
        )


def _by_class(cells: pd.DataFrame) -> list[Colouring]:
    """By class, those without one last; empty where no class is known."""
    if "label" not in cells.columns or cells["label"].isna().all():
        return []
    return [Colouring.of("class", cells["label"])]
