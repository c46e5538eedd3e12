from pathlib import Path

import pandas as pd
import pytest

from leukoscope.common.files import write_json

from .conftest import Browserless, write_run


@pytest.fixture
def unknowing(tmp_path) -> Path:
    """A sample of a classifier that knows no novelty."""
    run = write_run(tmp_path / "unknowing", seed=1)
    pd.read_csv(run / "cells.csv", keep_default_na=False).assign(novelty="").to_csv(run / "cells.csv", index=False)
    return run


def rows_of(page: str) -> list[int]:
    return [int(part.partition('"')[0]) for part in page.split('name="row" value="')[1:]]


@pytest.mark.parametrize("sort", ["doubt", "novelty"])
def test_all_cells_stand_in_the_order_that_is_selected(serving, run, sample, sort):
    ann = Browserless(serving(run))
    page = ann.http.get(f"/samples/1/gallery?sort={sort}").text
    assert f'<option value="{sort}" selected>' in page
    expected = sample.table[sort].sort_values(ascending=False)
    assert sample.table[sort][rows_of(page)].tolist() == expected.tolist()


def test_the_most_novel_cells_are_offered_first_where_the_sample_is_flagged(serving, tmp_path):
    run = write_run(tmp_path / "sample")
    counted = {"count": 1, "corrected_proportion": 0.3, "patient": [0.1, 0.6], "leukocytes": {}}
    classes = dict.fromkeys(("EOS", "LYM", "NEU"), counted)
    novelty = {"cells": 9, "expected": 0.6, "p": 1e-9, "flag": True}
    write_json(run / "differential.json", {"n": 57, "classes": classes, "novelty": novelty})
    page = Browserless(serving(run)).http.get("/samples/1").text
    assert "9 cells are unlike all that the classifier knows, where 1 were expected" in page
    assert '<a href="/samples/1/gallery?sort=novelty">Look at the most novel first</a>' in page


def test_novelty_is_offered_only_where_it_is_known(serving, run, unknowing):
    ann = Browserless(serving(run, unknowing))
    offered = {"/samples/1": ">Most novel<", "/samples/1/gallery": '<option value="novelty">'}
    for path, words in offered.items():
        assert words in ann.http.get(path).text
        assert words not in ann.http.get(path.replace("1", "2")).text
    answer = ann.http.get("/samples/2/gallery?sort=novelty")
    assert answer.status_code == 404
    assert "No novelty is known here; the classifier of this sample learned none." in answer.text


def test_the_cells_set_aside_are_said_not_to_count(serving, run):
    ann = Browserless(serving(run))
    words = "brings none of them back into the count"
    assert words in ann.http.get("/samples/1/gallery?of=-1").text
    assert words not in ann.http.get("/samples/1/gallery?of=0").text
    assert words not in ann.http.get("/samples/1/gallery").text
