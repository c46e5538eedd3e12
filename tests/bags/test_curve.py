from collections.abc import Callable

import pytest

from leukoscope.bags.bags import Bags, bags_of
from leukoscope.bags.crossval import BagSettings
from leukoscope.bags.curve import Curve, check_curve, learning_curve, summarise_curve
from leukoscope.bags.folds import bag_folds
from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features

QUICK = BagSettings.parse({"device": "cpu", "train": {"epochs": 15}}, where="test")


@pytest.fixture(scope="module")
def bags(make_cohort: Callable[..., Features]) -> Bags:
    return bags_of(make_cohort(0.06, patients=60))


def test_more_patients_tell_more(bags: Bags) -> None:
    folds = bag_folds(bags, n_folds=3, seed=0)
    curve = Curve(counts=(32, 8), draws=2)
    table = learning_curve(bags, folds, curve, heads=("abmil", "mean-features"), encoder="e", seed=0, settings=QUICK)
    assert table.groupby(["head", "patients"]).size().eq(2 * 3).all()
    told = summarise_curve(table).set_index(["head", "patients"])
    assert list(told.loc["mean-features"].index) == [8, 32]
    assert told.loc[("mean-features", 32), "roc_auc_macro"] > told.loc[("mean-features", 8), "roc_auc_macro"] + 0.1
    own = table[(table["head"] == "abmil") & (table["patients"] == 8)]["roc_auc_macro"]
    assert told.loc[("abmil", 8), "roc_auc_macro"] == pytest.approx(own.mean())
    assert told.loc[("abmil", 8), "roc_auc_macro_sd"] == pytest.approx(own.std())


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1, "--curve 1: give from 2 to 40 training patients"),
        (41, "--curve 41: give"),
        (2, "--curve 2: validation_share 0.25 of 2 patients is none"),
    ],
)
def test_numbers_that_cannot_be_had_are_told_before_training(bags: Bags, count: int, message: str) -> None:
    folds = bag_folds(bags, n_folds=3, seed=0)
    with pytest.raises(InputError, match=message):
        check_curve(bags, folds, Curve(counts=(count,)), ("abmil",), QUICK, 0)
