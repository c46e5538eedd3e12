from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.common.errors import InputError
from leukoscope.differential.classify import classify
from leukoscope.differential.compare import compare
from leukoscope.differential.counts import CountOptions
from leukoscope.differential.fit import fit
from leukoscope.differential.learn import learn
from leukoscope.differential.leukocytes import Leukocytes
from leukoscope.differential.sample import Sample
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.features import Features
from leukoscope.report.comparison_page import write_comparison_report

from .conftest import KINDS, write_set


@pytest.fixture(scope="module")
def samples(encoder: Encoder, features: Features, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    folder = tmp_path_factory.mktemp("compare")
    classifier = fit(features, folder / "classifier")
    found = {}
    for name, amounts in {"before": [10, 60, 130], "after": [80, 20, 100], "again": [10, 60, 130]}.items():
        cells = write_set(folder / f"{name}.set", np.repeat([0, 1, 2], amounts), seed=len(found) + 11)
        classify(cells, encoder, classifier, folder / name, device="cpu")
        found[name] = Sample.open(folder / name)
    return found


def test_what_changed_is_told_and_what_did_not_is_not(samples: dict[str, Sample], tmp_path: Path) -> None:
    rows = compare(samples, tmp_path / "run")["rows"]
    eosinophils = {row["sample"]: row["leukocytes"] for row in rows if row["class"] == "EOS"}
    assert "difference" not in eosinophils["before"]
    after, again = eosinophils["after"], eosinophils["again"]
    assert after["difference_low"] < 0.35 < after["difference_high"]
    assert after["difference_low"] > 0.2
    assert after["p_above_first"] > 0.999
    assert again["difference_low"] < 0 < again["difference_high"]
    assert after["difference_high"] - after["difference_low"] > after["high"] - after["low"]
    page = write_comparison_report(tmp_path / "run").read_text()
    assert "Difference from before" in page
    # All are leukocytes: shares of all cells are the same, and told once.
    assert all(row["cells"] == pytest.approx(row["leukocytes"]) for row in rows)
    assert "all cells counted" not in page
    table = pd.read_csv(tmp_path / "run" / "tables" / "comparison.csv")
    assert table["leukocytes_share"].tolist() == pytest.approx([row["leukocytes"]["share"] for row in rows])


def test_samples_of_one_patient_are_told_apart_more_surely(samples: dict[str, Sample], tmp_path: Path) -> None:
    two, width = {name: samples[name] for name in ("before", "after")}, {}
    for one in (True, False):
        found = compare(two, tmp_path / str(one), one_patient=one)
        assert found["one_patient"] == one
        last = {row["class"]: row["cells"] for row in found["rows"][3:]}
        width[one] = np.mean([last[name]["difference_high"] - last[name]["difference_low"] for name in KINDS])
        page = write_comparison_report(tmp_path / str(one)).read_text()
        assert f"The samples are taken to be of {'one patient' if one else 'several patients'}" in page
    assert width[True] < width[False]


@pytest.mark.parametrize(
    ("columns", "one"),
    [
        ({"patient": ["P1", "P1"]}, True),
        ({"patient": ["P1", "P2"]}, False),
        ({"patient": ["P1", None]}, False),
        ({"patient": ["P1", "P1"], "batch": ["B1", "B2"]}, False),
        ({"patient": ["P1", "P1"], "batch": ["B1", "B1"]}, True),
        ({}, False),
    ],
)
def test_whether_samples_are_of_one_patient_is_read_from_their_tables(
    samples: dict[str, Sample], tmp_path: Path, columns: dict[str, list[str | None]], one: bool
) -> None:
    given = {}
    for place, name in enumerate(("before", "after")):
        given[name] = Sample.open(samples[name].path)
        own = {column: values[place] for column, values in columns.items()}
        given[name].features.cells.drop(columns="patient", inplace=True)
        given[name].features.cells[list(own)] = list(own.values())
    assert compare(given, tmp_path / "run")["one_patient"] == one


def test_shares_are_of_the_leukocytes_and_those_of_all_cells_stand_beside(
    samples: dict[str, Sample], encoder: Encoder, tmp_path: Path
) -> None:
    asked = CountOptions(leukocytes=Leukocytes({"EOS": False}))
    classifier = samples["before"].path.parent / "classifier"
    told = {}
    for name in ("before", "after"):
        classify(samples[name].cellset, encoder, classifier, tmp_path / name, options=asked, device="cpu")
        told[name] = Sample.open(tmp_path / name)
    rows = compare(told, tmp_path / "run")["rows"]
    by_class = {name: {row["class"]: row for row in rows if row["sample"] == name} for name in told}
    for name, own in by_class.items():
        assert own["EOS"]["leukocytes"] is None
        for kind in ("LYM", "NEU"):
            counted = told[name].differential["classes"][kind]["leukocytes"]
            assert own[kind]["leukocytes"]["share"] == pytest.approx(counted["value"], abs=0.01)
        assert sum(own[kind]["leukocytes"]["share"] for kind in ("LYM", "NEU")) == pytest.approx(1)
        assert sum(row["cells"]["share"] for row in own.values()) == pytest.approx(1)
    # Of 60 lymphocytes to 130 neutrophils became 20 to 100, beside 10 eosinophils that became 80.
    fallen = by_class["after"]["LYM"]["leukocytes"]
    assert fallen["difference_low"] < 20 / 120 - 60 / 190 < fallen["difference_high"] < 0
    page = write_comparison_report(tmp_path / "run").read_text()
    assert "among the leukocytes" in page
    assert "among all cells counted" in page
    with pytest.raises(InputError, match="after: other classes were counted as leukocytes than in before"):
        compare({"before": samples["before"], "after": told["after"]}, tmp_path / "other")


def test_samples_of_other_classifiers_and_a_single_one_are_refused(
    samples: dict[str, Sample], encoder: Encoder, features: Features, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="give two samples or more"):
        compare({"before": samples["before"]}, tmp_path / "run")
    other = fit(features, tmp_path / "other", seed=5)
    classify(samples["after"].cellset, encoder, other, tmp_path / "elsewhere", device="cpu")
    # As the one it has learned on from, but for its head.
    learned = learn(samples["before"].classifier, features.x[:60], np.full(60, 1))
    classify(samples["after"].cellset, encoder, learned, tmp_path / "learned", device="cpu")
    for name in ("elsewhere", "learned"):
        with pytest.raises(InputError, match=f"{name} was called by another classifier than before"):
            compare({"before": samples["before"], name: Sample.open(tmp_path / name)}, tmp_path / "run")
