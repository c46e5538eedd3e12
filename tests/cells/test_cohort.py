from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.audit import audit
from leukoscope.cells.blocks import blocks_of
from leukoscope.cells.cellset import CellSet, contents_of
from leukoscope.cells.cohort import Look, cohort
from leukoscope.cells.cohorts.plan import CohortPlan, plan_names, read_plan
from leukoscope.cells.simulate import simulate
from leukoscope.common.errors import InputError

PLAN = CohortPlan(
    reference={"NEU": (50, 70), "LYM": (25, 45), "MON": (2, 10)},
    types={"healthy": {}, "lymphocytosis": {"LYM": (60, 85), "NEU": (10, 35)}},
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    out = tmp_path_factory.mktemp("cohort") / "source.set"
    return simulate(out, cells=600, size=16, classes=["NEU", "LYM", "MON", "EOS"], bit_depth=12, patients=60)


@pytest.fixture(scope="module")
def made(source: CellSet, tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    out = tmp_path_factory.mktemp("cohort") / "made.set"
    return cohort(source, out, plan=PLAN, patients=12, cells=(15, 20), pools=3, tint=0.2, focus=0.5, reuse=True, seed=1)


def test_patients_have_the_composition_of_their_type(source: CellSet, tmp_path: Path) -> None:
    chosen = ("healthy", "healthy+EOS=20")
    made = cohort(
        source, tmp_path / "a.set", plan=PLAN, composition=chosen, patients=6, cells=(60, 60), pools=1, reuse=True
    )
    shares = made.cells.groupby("patient_type")["label"].value_counts(normalize=True).unstack(fill_value=0)
    assert shares.loc["healthy", "EOS"] == 0
    assert shares.loc["healthy+EOS=20", "EOS"] == pytest.approx(0.2, abs=0.08)
    assert shares.loc["healthy", "NEU"] == pytest.approx(0.6, abs=0.15)
    assert made.cells.groupby("patient").size().eq(60).all()


def test_every_pool_has_every_type_and_shares_no_image_with_another(made: CellSet) -> None:
    patients = made.cells.drop_duplicates("patient")
    assert pd.crosstab(patients["pool"], patients["patient_type"]).to_numpy().tolist() == [[2, 2]] * 3
    pools = made.cells.groupby("drawn_from")["pool"].nunique()
    assert pools.max() == 1


def test_what_was_drawn_from_one_image_is_known_as_one_whatever_it_looks_like(made: CellSet, source: CellSet) -> None:
    table = made.cells
    twice = table[table["drawn_from"].duplicated(keep=False)].sort_values("drawn_from")
    assert len(twice)
    assert not table["cell_id"].duplicated().any()
    assert table.groupby("patient")["drawn_from"].nunique().equals(table.groupby("patient").size())
    blocks = pd.Series(blocks_of(table, "patient"))
    assert blocks.groupby(table["drawn_from"]).nunique().max() == 1
    assert set(contents_of(table)) <= set(contents_of(source.cells))
    (seen,) = [each for each in audit([made], pretrain=[source]).findings if each.name == "pre-training cells"]
    assert seen.cells == len(made)


def test_without_reuse_no_image_is_shown_twice(source: CellSet, tmp_path: Path) -> None:
    made = cohort(source, tmp_path / "a.set", plan=PLAN, patients=6, cells=(20, 30), pools=2)
    assert not made.cells["drawn_from"].duplicated().any()
    rows = pd.Index(source.ids).get_indexer(pd.Index(made.cells["drawn_from"]))
    assert (made.read(slice(None)) == source.read(rows)).all()
    assert made.cells["donor"].tolist() == source.cells["patient"].iloc[rows].tolist()
    # The patients of the source stay in one pool, too.
    assert made.cells.groupby("donor")["pool"].nunique().max() == 1


def test_images_of_a_patient_share_a_look_of_their_own(made: CellSet, source: CellSet) -> None:
    assert made.info.bit_depth == 12
    assert made.info.intensity == source.info.intensity
    table = made.cells
    looks = table.groupby("patient")[["tint_bright-field", "defocus_px"]].nunique()
    assert looks.eq(1).all(axis=None)
    assert table.groupby("patient")["tint_bright-field"].first().std() > 0.05
    rows = pd.Index(source.ids).get_indexer(pd.Index(table["drawn_from"]))
    before, after = source.read(rows).mean(axis=(1, 2, 3)), made.read(slice(None)).mean(axis=(1, 2, 3))
    darker = pd.Series(after / before).groupby(table["patient"]).mean()
    assert darker.corr(table.groupby("patient")["tint_bright-field"].first(), method="spearman") < -0.95


def test_a_cohort_is_made_again_the_same(source: CellSet, made: CellSet, tmp_path: Path) -> None:
    again = cohort(
        source,
        tmp_path / "b.set",
        plan=PLAN,
        patients=12,
        cells=(15, 20),
        pools=3,
        tint=0.2,
        focus=0.5,
        reuse=True,
        seed=1,
    )
    assert again.info.pixels_fingerprint == made.info.pixels_fingerprint
    assert again.info.table_fingerprint == made.info.table_fingerprint


def test_the_plans_that_come_along_can_be_read() -> None:
    assert plan_names() == ["blood-smear"]
    assert "immature granulocyte" in read_plan("blood-smear").types["left_shift"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plan": "bone"}, "--plan bone: no such file, nor one of blood-smear"),
        ({"plan": PLAN, "composition": ["ill"]}, "--composition: unknown patient type 'ill'"),
        ({"plan": PLAN, "composition": ["healthy+BAS=5"]}, "--composition: unknown kind 'BAS'; choose from EOS, LYM"),
        ({"plan": PLAN, "composition": ["healthy~NEU.granules=2"]}, "none: only simulated cells have traits"),
        ({"plan": PLAN, "patients": 9}, "9 patients cannot have 2 types in each of 5 pools; ask for 10"),
        (
            {"plan": PLAN.model_copy(update={"reference": {**PLAN.reference, "neutrofil": (0, 5)}})},
            "healthy: no cell is of kind 'neutrofil'; there are EOS, LYM",
        ),
        ({"plan": PLAN, "cells": (10, 5)}, "cohort: cells: give the fewest and the most cells"),
        ({"plan": PLAN, "patients": 60}, "ask for fewer patients, cells a patient or pools, or --reuse cells"),
    ],
)
def test_mistakes_are_said_in_one_line(
    source: CellSet, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as error:
        cohort(source, tmp_path / "a.set", **options)  # type: ignore[arg-type]
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "a.set").exists()


def test_a_plan_of_ones_own_is_a_file(source: CellSet, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "reference: {NEU: [40, 60], LYM: [40, 60]}\ntypes: {healthy: {}, rich: {LYM: [70, 90], NEU: [10, 30]}}\n"
    )
    made = cohort(source, tmp_path / "a.set", plan=str(plan), patients=4, cells=(10, 12), pools=2)
    assert set(made.cells["label"]) == {"NEU", "LYM"}
    plan.write_text("reference: {NEU: [60, 40]}\ntypes: {healthy: {}}\n")
    plan.write_text("reference: {NEU: [10, 20], LYM: [10, 20]}\ntypes: {healthy: {}}\n")
    with pytest.raises(InputError, match=r"reference: its kinds have 20 to 40 per cent in all; let 100 lie between"):
        cohort(source, tmp_path / "b.set", plan=str(plan))
    plan.write_text("reference: {NEU: [60, 40]}\ntypes: {healthy: {}}\n")
    with pytest.raises(InputError, match=r"plan\.yaml: reference: give the lowest and the highest per cent of 'NEU'"):
        cohort(source, tmp_path / "b.set", plan=str(plan))


def test_the_look_keeps_black_and_white() -> None:
    pixels = np.array([[[[0, 1000], [2000, 4095]]]], dtype=np.uint16)
    shown = Look(np.array([1.5]), 0.0).at(pixels, white=4095)
    assert shown.dtype == np.uint16
    assert shown[0, 0, 0, 0] == 0
    assert shown[0, 0, 1, 1] == 4095
    density = -np.log(pixels[0, 0, 1, 0] / 4095)
    assert -np.log(shown[0, 0, 1, 0] / 4095) == pytest.approx(1.5 * density, rel=1e-3)
