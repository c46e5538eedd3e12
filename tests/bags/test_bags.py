import numpy as np
import pandas as pd
import pytest

from leukoscope.bags.bags import bags_of
from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features


def features(rows: list[tuple[str, str | None, str | None]]) -> Features:
    """Cells as (content, patient, label), each with its number for a feature."""
    table = pd.DataFrame(rows, columns=["content", "patient", "label"])
    table.insert(0, "cell_id", [f"{content}:x#{number}" for number, content in enumerate(table.pop("content"))])
    return Features(np.arange(len(rows), dtype=np.float32)[:, None], table)


def test_cells_are_laid_bag_by_bag_in_their_order() -> None:
    bags = bags_of(features([("a", "Q", "AML"), ("b", "P", "healthy"), ("c", None, None), ("d", "Q", "AML")]))
    assert bags.names.tolist() == ["P", "Q"]
    assert bags.labels.tolist() == ["healthy", "AML"]
    assert bags.sizes.tolist() == [1, 2]
    assert bags.features.x[:, 0].tolist() == [1, 0, 3]
    assert [rows.tolist() for rows in bags.rows(np.array([1, 0]))] == [[1, 2], [0]]


def test_patients_without_a_class_take_no_part_and_one_labelled_cell_is_enough() -> None:
    bags = bags_of(features([("a", "P", "AML"), ("b", "P", None), ("c", "Q", "healthy"), ("d", "R", None)]))
    assert bags.names.tolist() == ["P", "Q"]
    assert bags.sizes.tolist() == [2, 1]


def test_bags_may_be_named_by_numbers_or_with_colons() -> None:
    given = features([("a", "siteA:1", "AML"), ("b", "siteA:2", "healthy"), ("c", None, "AML")])
    bags = bags_of(given)
    assert bags.names.tolist() == ["siteA:1", "siteA:2"]
    assert len(set(bags.linked)) == 2
    given.cells["donor"] = [7.0, 8.0, None]
    assert bags_of(given, bag="donor").names.tolist() == ["7", "8"]


def test_patients_that_share_an_image_are_linked() -> None:
    rows = [("a", "P", "AML"), ("b", "Q", "healthy"), ("b", "R", "AML"), ("c", "S", "healthy")]
    linked = bags_of(features(rows)).linked
    assert linked[1] == linked[2]
    assert len(set(linked)) == 3


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        (
            [("a", "P", "AML"), ("b", "P", "healthy")],
            {},
            r"patient P: has cells of several classes in label \(AML, heal",
        ),
        ([("a", "P", "AML"), ("b", "Q", "AML")], {}, "--label label: bags of at least two classes are needed, found 1"),
        ([("a", "P", "AML")], {"bag": "donor"}, "--bag donor: no such column; the cells have cell_id, patient, label"),
    ],
)
def test_what_makes_no_bags_is_told_in_one_line(
    rows: list[tuple[str, str, str]], more: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        bags_of(features(rows), **more)
