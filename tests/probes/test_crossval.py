import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.folds import make_folds
from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features
from leukoscope.probes.crossval import ProbeSettings, cross_validate
from leukoscope.probes.nested import outer_folds
from leukoscope.scores.predictions import probabilities_of, validate

SMALL = ProbeSettings(
    device="cpu",
    heads={
        "linear": {"C": (1e-3, 1e-1, 10.0), "tolerance": 1e-5},
        "mlp": {"hidden": (32, 16), "epochs": 8, "batch": 64, "learning_rates": (1e-3, 1e-2)},
    },
)
HEADS = ("linear", "mlp", "knn")


def cells(n: int, classes: int = 3, told: float = 1.5, seed: int = 0) -> tuple[Features, np.ndarray]:
    """Features whose class means lie ``told`` standard deviations apart, and their labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = told * rng.normal(size=(classes, 12))[y] + rng.normal(size=(n, 12))
    table = pd.DataFrame({"cell_id": [f"{i:08x}:cell{i}.png" for i in range(n)]})
    return Features(x.astype(np.float32), table), np.array([f"type{i}" for i in y], dtype=object)


def accuracy(table: pd.DataFrame) -> float:
    answers = np.array([name.removeprefix("p_") for name in table.columns if name.startswith("p_")])
    return float((answers[probabilities_of(table).argmax(axis=1)] == table["label"]).mean())


def test_every_head_predicts_every_cell_once_and_choices_are_told():
    features, labels = cells(240)
    labels[:10] = None
    folds = make_folds(features.cells, labels, n_folds=3, repeats=2)
    found = cross_validate(features, labels, folds, heads=(*HEADS, "knn-5"), encoder="e", seeds=(0, 1), settings=SMALL)
    validate(found.predictions)
    expected = {"linear": 1, "mlp": 2, "knn": 1, "knn-5": 1}
    for head, seeds in expected.items():
        rows = found.predictions[found.predictions["head"] == head]
        assert len(rows) == 230 * 2 * seeds
        assert accuracy(rows) > 0.8
        assert (found.choices["head"] == head).sum() == 3 * 2 * seeds
    assert found.choices.loc[found.choices["head"] == "linear", "C"].isin((1e-3, 1e-1, 10.0)).all()
    assert set(found.tried["head"]) == set(HEADS)


def test_random_labels_give_chance():
    # Were the best of many candidates taken by the test fold, the answers would beat chance.
    features, _ = cells(900, seed=3)
    labels = np.array([f"type{i}" for i in np.random.default_rng(4).integers(0, 3, 900)], dtype=object)
    many = {
        "linear": {"C": tuple(np.logspace(-4, 1, 12))},
        "mlp": SMALL.heads["mlp"],
        "knn": {"k": tuple(range(1, 30))},
    }
    found = cross_validate(
        features, labels, make_folds(features.cells, labels), heads=HEADS, settings=ProbeSettings(heads=many)
    )
    for _, rows in found.predictions.groupby("head"):
        # Three standard errors of 900 guesses.
        assert abs(accuracy(rows) - 1 / 3) < 0.047


@pytest.mark.parametrize("n_folds", [2, 4])
def test_a_test_folds_labels_do_not_change_its_predictions(n_folds):
    features, labels = cells(200, told=0.7)
    folds = make_folds(features.cells, labels, n_folds=n_folds)
    held_out = features.cells["cell_id"].isin(folds.query("fold == 1 and role == 'test'")["cell_id"]).to_numpy()
    spoiled = np.where(held_out, "type0", labels)
    before, after = (
        cross_validate(features, given, folds, heads=HEADS, settings=SMALL).predictions.query("fold == 1")
        for given in (labels, spoiled)
    )
    # The other folds, solved in the same products, did change: equal to rounding, not to the bit.
    np.testing.assert_allclose(probabilities_of(before), probabilities_of(after), atol=1e-5)


def test_a_test_folds_features_do_not_change_what_is_fitted():
    features, labels = cells(200, told=0.7)
    folds = make_folds(features.cells, labels, n_folds=4)
    held_out = features.cells["cell_id"].isin(folds.query("fold == 1 and role == 'test'")["cell_id"]).to_numpy()
    shifted = Features(
        features.x + 100 * held_out[:, None].astype(np.float32) * (np.arange(200) % 2)[:, None], features.cells
    )
    kept = features.ids[held_out & (np.arange(200) % 2 == 0)]
    tables = [
        cross_validate(each, labels, folds, heads=HEADS, settings=SMALL).predictions for each in (features, shifted)
    ]
    before, after = (each[(each["fold"] == 1) & each["cell_id"].isin(kept)] for each in tables)
    np.testing.assert_allclose(probabilities_of(before), probabilities_of(after), atol=2e-3)


def test_all_folds_together_are_each_alone():
    features, labels = cells(200, told=0.7)
    folds = make_folds(features.cells, labels, n_folds=4)
    fixed = ProbeSettings(
        heads={
            "linear": {"C": (0.1,), "tolerance": 1e-5},
            "mlp": {**SMALL.heads["mlp"], "learning_rates": (1e-2,)},
            "knn": {"k": (5,)},
        }
    )
    together = cross_validate(features, labels, folds, heads=HEADS, settings=fixed).predictions
    for fold in range(4):
        one = folds[folds["fold"] == fold]
        alone = cross_validate(features, labels, one, heads=HEADS, settings=fixed).predictions
        np.testing.assert_allclose(
            probabilities_of(alone), probabilities_of(together.query("fold == @fold")), atol=1e-3
        )


@pytest.mark.parametrize("n_folds", [2, 5])
def test_inner_splits_hold_groups_together_and_the_test_fold_out(n_folds):
    features, labels = cells(300)
    table = features.cells.assign(patient=[f"p{i % 30}" for i in range(300)])
    folds = make_folds(table, labels, n_folds=n_folds, group="patient")
    folds["group"] = folds["cell_id"].map(table.set_index("cell_id")["patient"])
    patients = table["patient"].to_numpy()
    y = np.unique(labels, return_inverse=True)[1]
    for outer in outer_folds(folds, table, y):
        assert len(outer.training.inner) >= 2
        for inner in outer.training.inner:
            assert not set(patients[inner.fit]) & set(patients[inner.validation])
            assert set(inner.fit) | set(inner.validation) == set(outer.training.rows)
            assert not set(outer.test) & set(outer.training.rows)


def test_faults_are_told_in_one_line():
    features, labels = cells(60)
    folds = make_folds(features.cells, labels, n_folds=3)
    with pytest.raises(InputError, match=r"^head forest: no such head; choose from linear, linear-sgd, "):
        cross_validate(features, labels, folds, heads=("forest",))
    with pytest.raises(InputError, match="head linear: unknown key 'c'"):
        cross_validate(features, labels, folds, heads=("linear",), settings=ProbeSettings(heads={"linear": {"c": 1}}))
    with pytest.raises(InputError, match="labels: 1 classes; a head needs at least two"):
        cross_validate(features, np.array(["a"] * 60, dtype=object), folds)
    with pytest.raises(InputError, match="has no features; embed the cells that the folds were made of"):
        cross_validate(features.select(np.arange(50)), labels[:50], folds)
    spoiled = Features(np.where(np.arange(60)[:, None] == 7, np.nan, features.x), features.cells)
    with pytest.raises(InputError, match=r"e: the features of cell 00000007:cell7.png are not finite"):
        cross_validate(spoiled, labels, folds, encoder="e")
