from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.composition import Compositions
from leukoscope.common.errors import InputError
from leukoscope.differential import fit
from leukoscope.differential.coverage import coverage
from leukoscope.differential.pools import Pool
from leukoscope.encoders.features import Features

BLOOD = Compositions({"NEU": (55.0, 75.0), "LYM": (20.0, 40.0), "EOS": (1.0, 6.0)}, {"healthy": {}})
UNS = {"encoder_fingerprint": "e", "timm_name": "t", "channels": ["grey"], "bit_depth": 8, "pixels_fingerprint": "p"}


def features(n: int, seed: int, *, moved: float = 0.0) -> Features:
    """Three kinds that overlap on a line; where they are ``moved``, a classifier calls them wrongly."""
    random = np.random.default_rng(seed)
    kinds = np.arange(n) % 3
    x = random.normal(size=(n, 4))
    x[:, 0] += 2.5 * kinds + moved
    table = pd.DataFrame(
        {"cell_id": [f"{seed}-{i}:x" for i in range(n)], "label": np.array(["EOS", "LYM", "NEU"])[kinds]}
    )
    return Features(x.astype(np.float32), table, UNS)


def test_intervals_cover_as_trained_and_under_a_shift_only_the_audited_ones(tmp_path: Path) -> None:
    found = coverage(
        features(2400, 0), tmp_path / "run", BLOOD, shifted=features(1200, 1, moved=1.0), sizes=(200,), samples=60,
        splits=3, audit=60,
    )  # fmt: skip
    as_trained, shifted = found["summary"]
    assert (as_trained["condition"], shifted["condition"]) == ("as trained", "shifted")
    assert as_trained["corrected_error"] < 0.8 * as_trained["raw_error"]
    for interval in ("composition", "patient", "audited_composition", "audited_patient"):
        assert as_trained[interval]["mean"] > 0.9
    for interval in ("composition", "patient"):
        assert shifted[interval]["mean"] < 0.75
    for interval in ("audited_composition", "audited_patient"):
        assert shifted[interval]["mean"] > 0.9
    table = pd.read_csv(tmp_path / "run" / "tables" / "coverage.csv")
    assert len(table) == 2 * 3
    assert (table["samples"] == 60).all()


def test_whole_patients_are_samples_as_they_are_but_those_learned_from(tmp_path: Path) -> None:
    taught, others = features(600, 0), features(400, 1)
    taught.cells["patient"] = [f"P{number % 10}" for number in range(600)]
    others.cells["patient"] = [f"P{number % 8}" for number in range(400)]
    found = coverage(taught, tmp_path / "run", BLOOD, whole=others, sizes=(60,), samples=4, splits=2, audit=30)
    drawn, whole = found["summary"]
    # Patients of 50 cells have no samples of 60, and come as they are.
    assert (drawn["condition"], whole["condition"], whole["n"]) == ("as trained", "whole patients", 50)
    row = next(row for row in found["rows"] if row["condition"] == "whole patients")
    # Of ten patients five are learned from in each division; of these eight all others are samples.
    assert 6 <= row["samples"] <= 10
    assert row["mean_share"] == pytest.approx(1 / 3, abs=0.02)
    assert whole["composition"]["mean"] > 0.7
    assert whole["patient"]["mean"] is None
    found = coverage(taught, tmp_path / "less", BLOOD, whole=others, sizes=(20, 40, 60), samples=1, splits=1, audit=5)
    assert [row["n"] for row in found["summary"] if row["condition"] == "whole patients"] == [20, 40]
    found = coverage(taught, tmp_path / "few", BLOOD, whole=others, sizes=(5, 40), samples=1, splits=1, audit=5)
    few, most = (row for row in found["summary"] if row["condition"] == "whole patients")
    # Fifty cells stand for the patient of whom five are a sample.
    assert few["patient"]["mean"] > 0.7
    assert most["patient"]["mean"] is None
    alone = Features(others.x, others.cells.drop(columns="patient"), others.uns)
    with pytest.raises(InputError, match="whole patients: the cells have no column patient or slide"):
        coverage(taught, tmp_path / "other", BLOOD, whole=alone)


def test_a_pool_that_holds_fewer_cells_than_a_sample_needs_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = coverage(features(300, 0), tmp_path / "run", BLOOD, sizes=(50, 200), samples=2, splits=1)
    assert {(row["n"], row["class"]): row["pool"] for row in found["rows"]}[200, "NEU"] == 50
    told = [record.getMessage() for record in caplog.records if "are drawn from 50" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("as trained, samples of 200: about 1")


def test_limits_of_novelty_which_no_count_needs_are_not_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "learn_novelty", lambda *_: pytest.fail("learned"))
    coverage(features(300, 0), tmp_path / "run", BLOOD, sizes=(50,), samples=1, splits=1)


def test_samples_are_of_the_composition_asked_for_and_no_cell_comes_twice() -> None:
    y = np.repeat([0, 1, 2], [500, 500, 30])
    pool, rng = Pool(np.eye(3)[y], y), np.random.default_rng(0)
    rows = pool.sample(np.array([0.6, 0.35, 0.05]), 300, rng)
    assert len(rows) == len(set(rows)) == 300
    assert np.abs(np.bincount(y[rows]) / 300 - [0.6, 0.35, 0.05]).max() < 0.1
    assert len(pool.sample(np.array([0.0, 0.0, 1.0]), 100, rng)) == 100
    with pytest.raises(InputError, match="no cell is left of class 2"):
        Pool(np.eye(3)[y[:1000]], y[:1000]).sample(np.array([0.0, 0.0, 1.0]), 10, rng)


def test_a_plan_of_other_classes_is_refused(tmp_path: Path) -> None:
    other = Compositions({"neutrophil": (55.0, 75.0), "EOS": (30.0, 40.0)}, {"healthy": {}})
    with pytest.raises(InputError, match="healthy: no cell is labelled 'neutrophil'; there are EOS, LYM, NEU"):
        coverage(features(300, 0), tmp_path / "run", other)


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown patient type 'anaemia'"):
        coverage(features(300, 0), tmp_path / "run", BLOOD, types=("anaemia",))
