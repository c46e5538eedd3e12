import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leukoscope.cells import folds
from leukoscope.cells.cellset import content_hash
from leukoscope.common.errors import InputError


def table(contents: list[int], patients: list[int | None] | None = None) -> pd.DataFrame:
    cells = pd.DataFrame({"cell_id": [f"{content:04x}:file#{i}" for i, content in enumerate(contents)]})
    if patients is not None:
        cells["patient"] = [None if patient is None else f"P{patient}" for patient in patients]
    return cells


@st.composite
def labelled_cells(draw: st.DrawFn) -> tuple[pd.DataFrame, np.ndarray]:
    """Three classes with enough different cells, a few duplicates and patients with few cells each."""
    n = draw(st.integers(60, 120))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    contents = np.where(rng.random(n) < 0.15, rng.integers(0, n, n), np.arange(n))
    patients = [None if rng.random() < 0.1 else int(patient) for patient in rng.integers(0, n // 2, n)]
    labels = np.array([f"class{i % 3}" for i in range(n)], dtype=object)
    labels[rng.random(n) < 0.1] = None
    return table(list(contents), patients), labels


@settings(max_examples=25, deadline=None)
@given(data=labelled_cells(), n_folds=st.integers(2, 5), seed=st.integers(0, 1000))
def test_every_labelled_cell_is_tested_once_and_nothing_stands_on_both_sides(
    data: tuple[pd.DataFrame, np.ndarray], n_folds: int, seed: int
) -> None:
    cells, labels = data
    made = folds.make_folds(cells, labels, n_folds=n_folds, repeats=2, group="patient", seed=seed)
    known = set(cells.loc[[label is not None for label in labels], "cell_id"])
    patient = cells.set_index("cell_id")["patient"]
    for (_, _), fold in made.groupby(["repeat", "fold"]):
        assert set(fold["cell_id"]) == known
        test, train = (set(fold.loc[fold["role"] == role, "cell_id"]) for role in ("test", "train"))
        assert not set(map(content_hash, test)) & set(map(content_hash, train))
        assert not set(patient[list(test)].dropna()) & set(patient[list(train)].dropna())
    tested = made[made["role"] == "test"].groupby(["repeat", "cell_id"]).size()
    assert (tested == 1).all()
    assert len(tested) == 2 * len(known)


def test_test_folds_hold_the_proportions_of_the_labels() -> None:
    labels = np.array(["NEU"] * 600 + ["LYM"] * 300 + ["BAS"] * 25, dtype=object)
    patients = list(np.random.default_rng(0).integers(0, 200, 925))
    made = folds.make_folds(table(list(range(925)), patients), labels, group="patient")
    test = made[made["role"] == "test"].copy()
    test["label"] = test["cell_id"].map(dict(zip(table(list(range(925)))["cell_id"], labels, strict=True)))
    counts = test.groupby(["fold", "label"]).size().unstack()
    assert (counts.sub([5, 60, 120]).abs() <= [2, 6, 10]).all(axis=None)


def test_the_seed_decides_the_folds_and_repeats_differ() -> None:
    cells, labels = table(list(range(100))), np.array(["a", "b"] * 50, dtype=object)
    made = folds.make_folds(cells, labels, repeats=2, seed=3)
    assert made.equals(folds.make_folds(cells, labels, repeats=2, seed=3))
    assert not made.equals(folds.make_folds(cells, labels, repeats=2, seed=4))
    first, second = (made.loc[made["repeat"] == repeat, "role"].to_numpy() for repeat in (0, 1))
    assert (first != second).any()


@settings(max_examples=25, deadline=None)
@given(data=labelled_cells(), seed=st.integers(0, 1000), grouped=st.booleans())
def test_split_parts_share_no_content_and_no_patient(
    data: tuple[pd.DataFrame, np.ndarray], seed: int, grouped: bool
) -> None:
    cells, labels = data
    shares = {"pretrain": 0.6, "evaluate": 0.4}
    part = folds.split(cells, labels, shares, group="patient" if grouped else None, seed=seed)
    assert part.index.equals(cells.index)
    assert set(part) <= set(shares)
    assert (part.groupby(cells["cell_id"].map(content_hash)).nunique() == 1).all()
    if grouped:
        assert (part.groupby(cells["patient"]).nunique() == 1).all()
    assert part.equals(folds.split(cells, labels, shares, group="patient" if grouped else None, seed=seed))


def test_split_is_stratified_to_the_cell_and_random_within_a_class() -> None:
    labels = np.array(["a"] * 1000 + ["b"] * 55 + [None] * 100, dtype=object)
    cells = table(list(range(len(labels))))
    part = folds.split(cells, labels, {"pretrain": 0.6, "evaluate": 0.4}, seed=1)
    counts = part.groupby([label or "" for label in labels]).value_counts().unstack()
    assert counts["pretrain"].to_dict() == {"a": 600, "b": 33, "": 60}
    other = folds.split(cells, labels, {"pretrain": 0.6, "evaluate": 0.4}, seed=2)
    assert 0.4 < (part == other).mean() < 0.65


def test_split_keeps_the_shares_where_patients_differ_in_size() -> None:
    rng = np.random.default_rng(0)
    patients = list(rng.choice(30, 2000, p=np.arange(1, 31) / 465))
    labels = np.array(rng.choice(["a", "b", "c"], 2000), dtype=object)
    part = folds.split(
        table(list(range(2000)), patients), labels, {"x": 0.7, "y": 0.2, "z": 0.1}, group="patient", seed=0
    )
    shares = part.groupby(labels).value_counts(normalize=True).unstack()
    np.testing.assert_allclose(shares[["x", "y", "z"]], [[0.7, 0.2, 0.1]] * 3, atol=0.03)


def test_folds_are_read_as_they_were_written(tmp_path) -> None:
    made = folds.make_folds(table(list(range(20))), np.array(["a", "b"] * 10, dtype=object))
    folds.write(tmp_path / "folds.parquet", made)
    assert folds.read(tmp_path / "folds.parquet").equals(made)


@pytest.mark.parametrize(
    ("labels", "contents", "group", "message"),
    [
        (["a"] * 10 + ["b"] * 4, range(14), None, "class 'b': 4 cells are too few for 5 folds"),
        (["a"] * 10 + ["b"] * 6, [*range(10), 1, 1, 1, 1, 1, 1], None, "class 'b': 1 different images are too few"),
        (["a"] * 20, range(20), "patient", "class 'a': 2 groups of 'patient' are too few for 5 folds"),
        (["a"] * 20, range(20), "donor", "--group donor: no such column in cells.parquet; it has cell_id, patient"),
        ([None] * 6, range(6), None, "folds: no cell has a label; give --label COLUMN or --labels FILE"),
    ],
)
def test_what_cannot_be_folded_is_said_in_one_line(labels, contents, group, message) -> None:
    cells = table(list(contents), [i % 2 for i in range(len(labels))])
    with pytest.raises(InputError) as error:
        folds.make_folds(cells, np.array(labels, dtype=object), group=group)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_class_that_unequal_groups_leave_untrained_is_refused() -> None:
    cells = table(list(range(11)), [4, 2, 2, 4, 2, 4, 4, 0, 2, 2, 0])
    with pytest.raises(InputError, match="class 'c': its groups all fall into one test fold"):
        folds.make_folds(cells, np.array(list("acbbcaaccca"), dtype=object), n_folds=2, group="patient")


def test_groups_too_large_for_the_folds_are_refused() -> None:
    # Every class has five patients, but one patient holds the cells that link them all by duplicates.
    contents = [0, 0, 1, 1, 2, 2, 3, 3, *range(4, 12)]
    patients = [0, 1, 1, 2, 2, 3, 3, 4, *[5] * 4, *[6] * 4]
    labels = np.array(["a", "b"] * 8, dtype=object)
    with pytest.raises(InputError, match="groups of 'patient' are too few for 5 folds"):
        folds.make_folds(table(contents, patients), labels, group="patient")


def test_other_mistakes_are_said_in_one_line(tmp_path) -> None:
    cells, labels = table([1, 2]), np.array(["a", "b"], dtype=object)
    with pytest.raises(InputError, match="the shares must be positive and sum to 1"):
        folds.split(cells, labels, {"x": 0.5, "y": 0.4})
    with pytest.raises(InputError, match="need at least 2 folds and 1 repeat, got 1 and 1"):
        folds.make_folds(cells, labels, n_folds=1)
    with pytest.raises(InputError, match="cannot be read as folds"):
        folds.read(tmp_path / "absent.parquet")
    pd.DataFrame({"cell_id": ["x"]}).to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(InputError, match="missing: repeat, fold, role"):
        folds.read(tmp_path / "bad.parquet")
