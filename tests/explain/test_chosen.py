import numpy as np
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.explain.chosen import choose_cells, find_cells


def test_cells_are_found_by_id_by_its_beginning_and_by_source(cells: CellSet) -> None:
    names = [cells.ids[4], cells.ids[1][:10], "2.png"]
    assert find_cells(cells, names).tolist() == [4, 1, 2]


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere.png", "cell 'nowhere.png': not in "), ("", "cell '': 5 cells of ")]
)
def test_a_name_of_no_cell_or_of_several_is_refused(cells: CellSet, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        find_cells(cells, [name])
    assert "\n" not in str(caught.value)


def test_each_class_gives_as_many_as_asked_and_no_more_than_it_has(cells: CellSet) -> None:
    labels = np.array(["b", "a", None, "b", "b"], dtype=object)
    for seed in range(5):
        rows = choose_cells(cells, labels, 2, seed=seed)
        assert labels[rows].tolist() == ["a", "b", "b"]
        assert len(set(rows)) == 3
    assert len({tuple(choose_cells(cells, labels, 2, seed=seed)) for seed in range(9)}) > 1
    assert sorted(choose_cells(cells, labels, seed=0)) == [0, 1, 3, 4]


def test_without_classes_cells_of_the_whole_set_are_shown(cells: CellSet) -> None:
    nobody = np.full(5, None, dtype=object)
    assert choose_cells(cells, nobody, seed=0).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match=r"--per-class 2: no cell of .* has a class; give --cells"):
        choose_cells(cells, nobody, 2, seed=0)
