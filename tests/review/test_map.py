import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.differential.classify import classify
from leukoscope.differential.sample import Sample
from leukoscope.explain.discriminants import discriminant_plane
from leukoscope.review.map import CellMap
from leukoscope.review.store.database import Store

from ..differential.conftest import write_set
from .conftest import Browserless


@pytest.fixture(scope="module")
def second(shifted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another sample of the same classifier."""
    folder = tmp_path_factory.mktemp("second")
    cells = write_set(folder / "sample.set", np.arange(60) % 3, seed=9, pixel_size_um=0.5)
    made = shifted.parent
    classify(CellSet.open(cells.path), made / "encoder", made / "classifier", folder / "sample-18", device="cpu")
    return folder / "sample-18"


def square(x: float, y: float, half: float) -> list[list[float]]:
    return [[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half]]


def test_what_an_outline_holds_is_what_lies_within_it(shifted):
    found = CellMap.of(Sample.open(shifted))
    x, y = found.points[7]
    inside = (np.abs(found.points - found.points[7]) < 0.5).all(axis=1)
    assert found.inside(square(float(x), float(y), 0.5)).tolist() == np.flatnonzero(inside).tolist()


def test_cells_inside_an_outline_that_was_asked_for_before_are_known(shifted):
    found = CellMap.of(Sample.open(shifted))
    x, y = map(float, found.points[7])
    first, wider = found.inside(square(x, y, 0.5)), found.inside(square(x, y, 1.5))
    again = CellMap.inside(replace(found, points=found.points), square(x, y, 0.5))
    assert found.inside(square(x, y, 0.5)).tolist() == first.tolist() == again.tolist()
    assert len(wider) > len(first)
    assert found._found.cache_info().hits == 1


def test_samples_of_one_classifier_share_one_map(shifted, second):
    first, other = CellMap.of(Sample.open(shifted)), CellMap.of(Sample.open(second))
    assert first.space == other.space


def test_the_corners_hold_the_training_cells_and_those_of_the_sample(shifted):
    sample = Sample.open(shifted)
    found = CellMap.of(sample)
    known, new = discriminant_plane(sample.classifier.reference, sample.features.x)
    (left, bottom), (right, top) = found.corners
    width, height = np.ptp(np.concatenate([known, new]), axis=0) * 1.06
    assert (right - left, top - bottom) == (pytest.approx(width), pytest.approx(height))
    for points in (known, found.points):
        assert ((points > (left, bottom)) & (points < (right, top))).all()


def test_a_classifier_without_its_training_cells_has_no_map(shifted):
    sample = Sample.open(shifted)
    sample.__dict__["classifier"] = replace(sample.classifier, reference=None)
    with pytest.raises(InputError, match="its classifier keeps no training cells, which a map is made of"):
        CellMap.of(sample)


def test_a_gate_drawn_on_one_sample_is_found_on_another(serving, shifted, second, tmp_path):
    ann = Browserless(serving(shifted, second, reviewer="ann"))
    token = ann.token()
    found = ann.http.get("/samples/1/points.json").json()
    assert len(found["points"]) == len(found["called"]) == 240
    (left, bottom), (right, top) = found["corners"]
    everything = [[left, bottom], [right, bottom], [right, top], [left, top]]
    form = {"csrf": token, "name": "all of them", "outline": json.dumps(everything)}
    assert ann.http.post("/samples/1/gates", data={**form, "name": "  "}).status_code == 400
    answer = ann.http.post("/samples/1/gates", data={**form, "name": " all of them "})
    assert "Gate all of them: 240 cells" in ann.http.get(answer.headers["location"]).text
    assert "all of them" in ann.http.get("/samples/2/map").text
    assert "Gate all of them: " in ann.http.get(answer.headers["location"].replace("/1/", "/2/")).text
    assert ann.http.post("/samples/1/gates", data=form).status_code == 409


@pytest.mark.parametrize(
    "outline", ["", "[[0, 0], [1, 1]]", "[[0, 0], [1, 1], [null, 2]]", "[[0, 0], [1, 1], [NaN, 2]]", "x"]
)
def test_an_outline_that_is_none_is_refused(serving, shifted, outline):
    ann = Browserless(serving(shifted))
    answer = ann.http.post("/samples/1/gates", data={"csrf": ann.token(), "name": "x", "outline": outline})
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_name_that_the_store_cannot_keep_is_refused(serving, store, shifted):
    ann = Browserless(serving(shifted, store=store))
    form = {"csrf": ann.token(), "name": "a\0gate", "outline": "[[0, 0], [1, 1], [0, 1]]"}
    assert ann.http.post("/samples/1/gates", data=form).status_code == 400


def test_cells_that_are_set_aside_lie_in_no_gate(serving, shifted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(shifted, run)
    table = pd.read_csv(run / "cells.csv", dtype=str, keep_default_na=False)
    table.loc[:19, "set_aside"] = "blurred"
    table.to_csv(run / "cells.csv", index=False)
    ann = Browserless(serving(run))
    (left, bottom), (right, top) = ann.http.get("/samples/1/points.json").json()["corners"]
    everything = [[left - 9, bottom - 9], [right + 9, bottom - 9], [right + 9, top + 9], [left - 9, top + 9]]
    form = {"csrf": ann.token(), "name": "all", "outline": json.dumps(everything)}
    answer = ann.http.post("/samples/1/gates", data=form)
    assert "Gate all: 220 cells" in ann.http.get(answer.headers["location"]).text
    assert '<td class="number">220</td>' in ann.http.get("/samples/1/map").text


def test_a_blind_review_has_no_map(serving, shifted, tmp_path):
    ann = Browserless(serving(shifted, store=Store.open(f"sqlite:///{tmp_path / 'blind.db'}"), blind=True))
    for path in ("map", "points.json", "gates/1", "learned"):
        assert ann.http.get(f"/samples/1/{path}").status_code == 403
