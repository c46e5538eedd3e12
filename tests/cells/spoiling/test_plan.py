from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leukoscope.cells.spoiling.kinds import KINDS
from leukoscope.cells.spoiling.plan import Step, plan

DEFAULTS: dict[str, Any] = {"kinds": KINDS, "grade": (0.3, 1.0), "share": 0.5, "seed": 0}


def table(n: int = 400, patients: int = 8) -> pd.DataFrame:
    ids = [f"{number:032x}:cells.tif#{number}" for number in range(n)]
    return pd.DataFrame({"cell_id": ids, "patient": [f"P{number % patients}" for number in range(n)]})


def by_cell(cells: pd.DataFrame, steps: list[Step]) -> dict[str, Any]:
    ids = cells["cell_id"].to_numpy()
    return {ids[s.row]: (s.quality, s.grade, None if s.second is None else ids[s.second]) for s in steps}


def test_share_kinds_and_grades_are_as_asked() -> None:
    steps = plan(table(4000), **DEFAULTS)
    spoiled = [step for step in steps if step.quality != "normal"]
    assert len(spoiled) / len(steps) == pytest.approx(0.5, abs=0.03)
    counts = pd.Series([step.quality for step in spoiled]).value_counts()
    assert set(counts.index) == set(KINDS)
    assert counts.min() > 0.75 * counts.mean()
    grades = np.array([step.grade for step in spoiled if step.quality != "empty"])
    assert 0.3 <= grades.min() < 0.32
    assert 0.98 < grades.max() <= 1
    assert grades.mean() == pytest.approx(0.65, abs=0.02)
    assert {step.grade for step in spoiled if step.quality == "empty"} == {1.0}
    assert {step.grade for step in steps if step.quality == "normal"} == {0.0}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**63 - 1), st.floats(0.05, 1), st.sets(st.sampled_from(KINDS), min_size=1), st.randoms())
def test_every_cell_is_shown_once_in_any_order(seed, share, kinds, random) -> None:
    cells = table(60, patients=3)
    order = list(range(60))
    random.shuffle(order)
    shuffled = cells.iloc[order].reset_index(drop=True)
    asked = {"kinds": sorted(kinds), "grade": (0.0, 0.5), "share": share, "seed": seed}
    steps = plan(cells, **asked)
    assert by_cell(cells, steps) == by_cell(shuffled, plan(shuffled, **{**asked, "kinds": sorted(kinds)[::-1]}))
    shown = [step.row for step in steps] + [step.second for step in steps if step.second is not None]
    assert sorted(shown) == list(range(60))
    for step in steps:
        assert (step.quality == "doublet") == (step.second is not None)
        if step.second is not None:
            assert cells["patient"][step.row] == cells["patient"][step.second]


def test_what_happens_to_a_cell_does_not_depend_on_the_others() -> None:
    cells = table(200)
    alone = {**DEFAULTS, "kinds": [kind for kind in KINDS if kind != "doublet"]}
    whole, part = by_cell(cells, plan(cells, **alone)), by_cell(cells, plan(cells.iloc[:50], **alone))
    assert part == {cell: whole[cell] for cell in part}
    assert len(part) == 50


def test_exact_duplicates_are_spoiled_alike_and_in_no_doublet() -> None:
    cells = table(300)
    cells["cell_id"] = [f"{number // 2:032x}:cells.tif#{number}" for number in range(300)]
    steps = plan(cells, **DEFAULTS)
    assert len(steps) == 300
    assert all((a.quality, a.grade) == (b.quality, b.grade) for a, b in zip(steps[::2], steps[1::2], strict=True))
    assert {step.quality for step in steps} == {"normal", *KINDS} - {"doublet"}


def test_a_cell_without_a_second_of_its_patient_stays_normal() -> None:
    lone = table(50, patients=50)
    assert {step.quality for step in plan(lone, **{**DEFAULTS, "share": 1, "kinds": ["doublet"]})} == {"normal"}
    unknown = lone.drop(columns="patient")
    steps = plan(unknown, **{**DEFAULTS, "share": 1, "kinds": ["doublet"]})
    assert [step.quality for step in steps] == ["doublet"] * 25
