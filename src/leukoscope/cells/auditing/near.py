from collections.abc import Sequence

import numpy as np
import pandas as pd

from leukoscope.cells.auditing.finding import Finding, first_examples
from leukoscope.cells.auditing.perceptual import near_pairs


def near_duplicates(table: pd.DataFrame, hashes: Sequence[np.ndarray]) -> list[Finding]:
    """Pairs that look alike and are not the same pixels, within and across sets.

    ``table`` holds the cells of all sets, those of pre-training among them; ``hashes`` those of each set in the same
    order. Looking alike is no proof, so a person has to look: the finding warns.
    """
    pairs = near_pairs(np.concatenate(hashes))
    contents = table["content"].to_numpy()
    pairs = pairs[contents[pairs[:, 0]] != contents[pairs[:, 1]]]
    sets = table["set"].to_numpy()
    ids = table["cell_id"].to_numpy()
    findings = []
    within = sets[pairs[:, 0]] == sets[pairs[:, 1]]
    for name, chosen in (("near duplicates", pairs[within]), ("near duplicates in two sets", pairs[~within])):
        if len(chosen):
            where = ", ".join(dict.fromkeys(sets[chosen.ravel()]))
            cells = len(np.unique(chosen))
            detail = f"{len(chosen)} pairs look alike but differ in pixels; they are not kept together"
            findings.append(Finding(name, "warns", where, cells, detail, first_examples(ids[pair] for pair in chosen)))
    return findings
