from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from leukoscope.report.drawing import Picture, figure, keep, slug
from leukoscope.report.evaluation import Evaluation
from leukoscope.report.scatter import Colouring, legend, panels, scatter

if TYPE_CHECKING:
    from leukoscope.encoders.features import Features

# Below 4,096 UMAP looks neighbours up exactly; the search for more must be compiled anew in every process.
MOST_POINTS = 4000
MEANS_NOTHING = "Near cells have like features; distances between groups, their sizes and the axes mean nothing."


def draw_map(evaluation: Evaluation, name: str, features: "Features", folder: Path, *, seed: int) -> Picture | None:
    """A UMAP of one encoder's features by class and, where known, by batch and by patient or slide.

    At most 4,000 cells are drawn, chosen by ``seed``. None where ``features`` holds none of the evaluated cells.
    """
    from leukoscope.explain.map2d import umap_map

    labels = evaluation.predictions.drop_duplicates("cell_id").set_index("cell_id")["label"].reindex(features.ids)
    known = np.flatnonzero(labels.notna().to_numpy())
    if len(known) < 10:
        return None
    rows = np.sort(np.random.default_rng(seed).permutation(known)[:MOST_POINTS])
    places = umap_map(features.x[rows], seed=seed)
    by_class = Colouring("class", labels.to_numpy()[rows], evaluation.classes)
    colourings = [by_class, *Colouring.origins(features.cells.iloc[rows])]
    with figure(9.0, 4.9 if len(colourings) > 1 else 6.0) as drawn:
        for axes, colouring, width in panels(drawn, colourings, width=9.0):
            scatter(axes, places, colouring.values, colouring.names)
            legend(axes, colouring.names, width)
        shown = ", ".join(colouring.title for colouring in colourings)
        return keep(
            drawn,
            folder,
            slug("map", name),
            alt=f"Map of the features of {name}, {len(rows)} cells, coloured by {shown}.",
            caption=f"UMAP of the features of {name}, {len(rows):,} cells by {shown}. {MEANS_NOTHING}",
            dpi=180,
        )
