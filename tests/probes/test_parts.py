from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.cellset import CellSet, content_hash
from leukoscope.common.errors import InputError
from leukoscope.probes.parts import Parts, at_most, parts_of


def drawn(cells: CellSet, **options: object) -> Parts:
    given = {"column": None, "group": "slide", "test_share": 0.3, "inner_share": 0.25, "max_per_class": None, "seed": 0}
    return parts_of(cells, cells.cells["label"].to_numpy(dtype=object), **{**given, **options})


def with_column(cells: CellSet, name: str, values: np.ndarray) -> CellSet:
    return replace(cells, cells=cells.cells.assign(**{name: pd.Series(values, dtype="object")}))


def test_slides_stand_in_one_part_and_every_cell_in_one(bars: CellSet) -> None:
    parts = drawn(bars)
    assert sorted(np.concatenate(list(parts.rows.values()))) == list(range(200))
    slides = {part: set(bars.cells["slide"].iloc[rows]) for part, rows in parts.rows.items()}
    assert not slides["train"] & slides["validation"]
    assert not (slides["train"] | slides["validation"]) & slides["test"]
    assert len(slides["test"]) == 3
    assert list(parts.training) == sorted([*parts.rows["train"], *parts.rows["validation"]])
    assert [list(rows) for rows in drawn(bars).rows.values()] == [list(rows) for rows in parts.rows.values()]
    assert list(drawn(bars, seed=1).rows["test"]) != list(parts.rows["test"])


def test_of_a_class_so_many_are_trained_on_and_all_tested(bars: CellSet) -> None:
    every, capped = drawn(bars), drawn(bars, max_per_class=30)
    assert list(capped.rows["test"]) == list(every.rows["test"])
    assert set(capped.training) < set(every.training)
    assert bars.cells["label"].iloc[capped.training].value_counts().to_dict() == {"dark-left": 30, "bright-left": 30}
    rows, classes = np.arange(10, 20), np.array([0, 1] * 5)
    assert list(at_most(rows, classes, None, 0)) == list(rows)
    kept = at_most(rows, classes, 2, 0)
    assert list(kept) == sorted(kept)
    assert sorted(classes[kept - 10]) == [0, 0, 1, 1]
    assert {tuple(at_most(rows, classes, 2, seed)) for seed in range(20)} != {tuple(kept)}


def test_the_column_split_is_taken_where_it_tells_train_from_test(bars: CellSet) -> None:
    slide = bars.cells["slide"].str[1:].astype(int).to_numpy()
    said = np.select([slide < 2, slide < 4, slide == 4], ["test", "VAL", "pretrain"], "train")
    parts = drawn(with_column(bars, "split", said))
    assert {name: len(rows) for name, rows in parts.rows.items()} == {"train": 100, "validation": 40, "test": 40}
    assert set(slide[parts.rows["test"]]) == {0, 1}
    without = np.where(said == "VAL", "train", said)
    assert set(drawn(with_column(bars, "split", without)).rows["test"]) == set(parts.rows["test"])
    elsewhere = with_column(bars, "split", np.where(slide < 5, "pretrain", "evaluate"))
    assert list(drawn(elsewhere).rows["test"]) == list(drawn(bars).rows["test"])
    own = with_column(bars, "use", said)
    assert list(drawn(own, column="use").rows["test"]) == list(parts.rows["test"])
    assert list(drawn(own, column="none").rows["test"]) == list(drawn(bars).rows["test"])


def test_exact_duplicates_of_test_cells_are_not_trained_on(bars: CellSet) -> None:
    ids = bars.ids.copy()
    ids[150] = f"{content_hash(ids[0])}:copy.png"
    twice = replace(bars, cells=bars.cells.assign(cell_id=ids))
    for seed in range(5):
        rows = drawn(twice, group=None, seed=seed).rows
        assert len({name for name, each in rows.items() if {0, 150} & set(each)}) == 1
    said = np.where(np.arange(200) < 40, "test", "train")
    rows = drawn(with_column(twice, "split", said), group=None).rows
    assert 0 in rows["test"]
    assert 150 not in np.concatenate([rows["train"], rows["validation"]])


def test_cells_without_a_label_take_no_part(bars: CellSet) -> None:
    labels = bars.cells["label"].to_numpy(dtype=object).copy()
    labels[::5] = None
    shares = {"column": None, "group": None, "test_share": 0.3, "inner_share": 0.2, "max_per_class": None, "seed": 0}
    assert not set(range(0, 200, 5)) & set(np.concatenate(list(parts_of(bars, labels, **shares).rows.values())))


def test_mistakes_are_named(bars: CellSet) -> None:
    slide = bars.cells["slide"].to_numpy()
    mixed = with_column(bars, "split", np.where(np.arange(200) < 40, "test", "train"))
    with pytest.raises(
        InputError, match=r"--split split: slide S0 \(10 in all\) has cells to test on and cells to train"
    ):
        drawn(mixed)
    with pytest.raises(InputError, match="--split slide: says s0, s1, s2, s3; it must say train and test"):
        drawn(bars, column="slide")
    with pytest.raises(InputError, match="no column 'use'"):
        drawn(bars, column="use")
    alone = bars.select(slide == "S1")
    with pytest.raises(InputError, match="no labelled validation cells; change the shares, --split or --group"):
        drawn(alone)
    by_class = with_column(bars, "split", np.where(bars.cells["label"] == "dark-left", "test", "train"))
    with pytest.raises(InputError, match="training cells of 1 class; at least two are told apart"):
        drawn(by_class, group=None)
    third = with_column(bars, "split", np.where(slide == "S0", "test", "train"))
    labels = np.where(slide == "S0", "third", bars.cells["label"]).astype(object)
    shares = {"column": None, "group": "slide", "test_share": 0.3, "inner_share": 0.2, "max_per_class": None, "seed": 0}
    with pytest.raises(InputError, match="class 'third': has no training cells; leave it out"):
        parts_of(third, labels, **shares)
