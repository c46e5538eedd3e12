import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from leukoscope.bags.crossval import BagSettings
from leukoscope.bags.curve import Curve
from leukoscope.bags.mil import mil
from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features
from leukoscope.report.cohort import Cohort, mean_curves
from leukoscope.report.cohort_page import write_cohort_report
from leukoscope.report.cohort_tables import kinds_table, patients_table, runs_table

QUICK = BagSettings.parse({"device": "cpu", "train": {"epochs": 8}}, where="test")


@pytest.fixture(scope="module")
def cellset(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    out = tmp_path_factory.mktemp("cohort") / "cells.set"
    types = ("healthy", "healthy+K562=40")
    return simulate(out, cells=240, size=24, patients=12, composition=types, classes=["LYM", "NEU", "K562"])


@pytest.fixture(scope="module")
def features(cellset: CellSet) -> dict[str, Features]:
    centres = {"LYM": 0, "NEU": 1, "K562": 2}
    kinds = np.array([centres[kind] for kind in cellset.cells["label"]])
    drawn = np.random.default_rng(0)
    return {
        name: Features(
            (scale * np.eye(6)[kinds] + drawn.normal(size=(len(kinds), 6))).astype(np.float32), cellset.cells, {}
        )
        for name, scale in (("good", 4.0), ("poor", 0.5))
    }


@pytest.fixture(scope="module")
def run(features: dict[str, Features], cellset: CellSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort") / "run"
    heads = ("abmil", "class-attention", "mean-features")
    asked = {"label": "patient_type", "kind": "label", "suspect": ("K562",), "heads": heads}
    asked |= {"n_folds": 3, "seeds": (0, 1), "settings": QUICK, "curve": Curve(counts=(6,), draws=1)}
    mil(features, out, **asked, n_bootstrap=20)
    write_cohort_report(out, features=features, cellset=cellset, title="Twelve patients")
    return out


def test_pages_carry_everything_and_link_to_each_other_alone(run: Path) -> None:
    home = (run / "report.html").read_text()
    links = re.findall(r'(?:src|href)="((?!data:|#)[^"]+)"', home)
    assert len(links) == 12
    assert all((run / link).is_file() for link in links)
    for link in links:
        page = (run / link).read_text()
        assert set(re.findall(r'(?:src|href)="((?!data:|#)[^"]+)"', page)) == {"../report.html"}
    assert "Twelve patients" in page
    assert page.count("<li style=") >= 20  # most and least of twenty cells
    assert (run / "figures" / "curves.svg").is_file()
    assert (run / "figures" / "attention-by-kind.svg").is_file()
    assert (run / "figures" / "learning-curve.svg").is_file()


def test_tables_say_what_results_hold(run: Path) -> None:
    cohort = Cohort.open(run)
    best = cohort.evaluation.ranked()[0]
    found = cohort.results["runs"][best[0]][best[1]]["f1_macro"]
    assert runs_table(cohort).groups[0].rows[0][2].text == f"{found['mean']:.2f} ± {found['sd']:.2f}"
    said = patients_table(cohort, linked=True)
    assert sum(len(group.rows) for group in said.groups) == 12
    assert all(row[4].text == "20" for group in said.groups for row in group.rows)
    kinds = kinds_table(cohort)
    assert kinds is not None
    rows = [row for group in kinds.groups if group.title.endswith("class healthy+K562=40") for row in group.rows]
    assert rows[0][0].text in ("K562", "suspect kinds")


def test_leaders_have_attention_and_stand_for_their_encoder(run: Path) -> None:
    cohort = Cohort.open(run)
    assert [pair[0] for pair in cohort.leaders] == ["good", "poor"]
    assert all(head != "mean-features" for _, head in cohort.leaders)


def test_the_area_under_a_mean_curve_is_the_mean_area(run: Path) -> None:
    cohort = Cohort.open(run)
    pair, points = ("poor", "abmil"), np.linspace(0, 1, 4001)
    curves = mean_curves(cohort, pair, "roc", points)
    assert curves.shape == (6, 4001)
    table = cohort.evaluation.predictions
    own = table[(table["encoder"] == pair[0]) & (table["head"] == pair[1])]
    areas = [roc_auc_score(one["label"] == "healthy", one["p_healthy"]) for _, one in own.groupby(["seed", "fold"])]
    np.testing.assert_allclose(np.trapezoid(curves, points, axis=1), areas, atol=2e-3)
    precision = mean_curves(cohort, pair, "pr", points)
    assert ((precision > 0) & (precision <= 1)).all()
    assert (np.diff(precision, axis=1) <= 1e-12).all()


def test_without_images_features_or_attention_pages_say_what_is_missing(
    features: dict[str, Features], tmp_path: Path
) -> None:
    mil(features, tmp_path / "run", label="patient_type", heads=("mean-features",), n_folds=3, n_bootstrap=10)
    write_cohort_report(tmp_path / "run")
    assert "Not shown: No cell’s kind was named" in (tmp_path / "run" / "report.html").read_text()
    page = next((tmp_path / "run" / "patients").glob("*.html")).read_text()
    assert "Not shown: The images were not given" in page


def test_patients_whose_names_make_one_file_have_pages_of_their_own(tmp_path: Path) -> None:
    rows = [
        {"cell_id": f"h{patient}{cell}:x#{cell}", "patient": name, "label": "AB"[patient % 2]}
        for patient, name in enumerate(["a b", "a-b", "A_B", "a.b", "c", "d"])
        for cell in range(4)
    ]
    drawn = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    mil(
        {"e": Features(drawn, pd.DataFrame(rows))}, tmp_path / "run", heads=("mean-features",), n_folds=3, n_bootstrap=5
    )
    write_cohort_report(tmp_path / "run")
    assert len(list((tmp_path / "run" / "patients").glob("*.html"))) == 6


def test_another_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no evaluation"):
        write_cohort_report(tmp_path)
