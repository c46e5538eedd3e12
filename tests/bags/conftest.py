from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from leukoscope.encoders.features import Features

KINDS = 4  # that all patients have


def cohort(share: float, *, patients: int = 40, cells: int = 60, seed: int = 0) -> Features:
    """Patients of two classes: in ``AML`` kind 4 makes up ``share`` of the cells, in ``healthy`` there is none."""
    rng = np.random.default_rng(seed)
    centres = 4 * np.eye(12)
    x, rows = [], []
    for patient in range(patients):
        sick = patient % 2 == 1
        size = int(rng.integers(cells // 2, cells + 1))
        kinds = rng.integers(0, KINDS, size)
        if sick:
            kinds[rng.permutation(size)[: round(share * size)]] = KINDS
        x.append(centres[kinds] + rng.normal(size=(size, 12)))
        label = "AML" if sick else "healthy"
        rows += [{"patient": f"P{patient:02d}", "label": label, "kind": int(kind)} for kind in kinds]
    table = pd.DataFrame(rows)
    table.insert(0, "cell_id", [f"hash{number}:x#{number}" for number in range(len(table))])
    # Cells of all patients mixed, as an embedded set may have them.
    order = rng.permutation(len(table))
    return Features(np.concatenate(x).astype(np.float32)[order], table.iloc[order].reset_index(drop=True))


@pytest.fixture(scope="session")
def make_cohort() -> Callable[..., Features]:
    return cohort
