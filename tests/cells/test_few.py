import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.few import few_labels
from leukoscope.cells.folds import make_folds
from leukoscope.common.errors import InputError

LABELS = np.array(["a"] * 60 + ["b"] * 30 + ["c"] * 10, dtype=object)
CELLS = pd.DataFrame({"cell_id": [f"{number:03d}:x" for number in range(100)]})
NAMES = dict(zip(CELLS["cell_id"], LABELS, strict=True))


@pytest.fixture
def folds() -> pd.DataFrame:
    return make_folds(CELLS, LABELS, n_folds=5, seed=0)


def training(folds: pd.DataFrame) -> dict[tuple[int, int], list[str]]:
    rows = folds[folds["role"] == "train"]
    return {(int(r), int(f)): sorted(part["cell_id"]) for (r, f), part in rows.groupby(["repeat", "fold"])}


def test_each_draw_takes_so_many_cells_by_the_shares_of_their_classes(folds: pd.DataFrame) -> None:
    drawn = few_labels(folds, NAMES, 20, draws=3)
    found = training(drawn)
    assert len(found) == 15
    assert len({tuple(cells) for cells in found.values()}) == 15
    for (_, fold), cells in found.items():
        assert set(cells) <= set(training(folds)[0, fold])
        counts = pd.Series([NAMES[cell] for cell in cells]).value_counts()
        assert counts.to_dict() == {"a": 12, "b": 6, "c": 2}


def test_every_class_is_shown_though_its_share_asks_for_none(folds: pd.DataFrame) -> None:
    for cells in training(few_labels(folds, NAMES, 4)).values():
        assert sorted({NAMES[cell] for cell in cells}) == ["a", "b", "c"]
        assert len(cells) == 4


def test_counts_of_every_class_take_what_a_rare_one_has(folds: pd.DataFrame) -> None:
    for cells in training(few_labels(folds, NAMES, 10, per_class=True)).values():
        assert pd.Series([NAMES[cell] for cell in cells]).value_counts().to_dict() == {"a": 10, "b": 10, "c": 8}


def test_test_cells_stay_and_fewer_labels_are_among_the_more(folds: pd.DataFrame) -> None:
    few, more = few_labels(folds, NAMES, 10, draws=2), few_labels(folds, NAMES, 40, draws=2)
    for (repeat, fold), cells in training(few).items():
        assert set(cells) < set(training(more)[repeat, fold])
        test = few[(few["repeat"] == repeat) & (few["fold"] == fold) & (few["role"] == "test")]
        own = folds[(folds["fold"] == fold) & (folds["role"] == "test")]
        assert sorted(test["cell_id"]) == sorted(own["cell_id"])


def test_the_seed_decides(folds: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(few_labels(folds, NAMES, 12, seed=1), few_labels(folds, NAMES, 12, seed=1))
    assert training(few_labels(folds, NAMES, 12, seed=1)) != training(few_labels(folds, NAMES, 12, seed=2))


def test_what_cannot_be_drawn_is_refused(folds: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="81 cells are asked for, a training fold has 80"):
        few_labels(folds, NAMES, 81)
    with pytest.raises(InputError, match="2 cells cannot show 3 classes; ask for 3 or more"):
        few_labels(folds, NAMES, 2)
