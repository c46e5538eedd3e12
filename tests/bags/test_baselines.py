from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from leukoscope.bags.bags import bags_of
from leukoscope.bags.baselines import KIND_SHARES, MEAN_FEATURES, cross_validate_numbers, kind_shares, mean_features
from leukoscope.bags.folds import bag_folds, outer_folds
from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features

Cohort = Callable[..., Features]


def test_numbers_of_a_bag_are_those_of_its_cells(make_cohort: Cohort) -> None:
    cohort = make_cohort(0.2, patients=6)
    bags = bags_of(cohort, kind="kind")
    own = (cohort.cells["patient"] == bags.names[1]).to_numpy()
    np.testing.assert_allclose(mean_features(bags)[1], cohort.x[own].mean(axis=0), rtol=1e-4)
    shares = cohort.cells.loc[own, "kind"].value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(kind_shares(bags)[1], shares)


def test_kinds_that_are_not_known_do_not_count(make_cohort: Cohort) -> None:
    cohort = make_cohort(0.2, patients=6)
    kinds = cohort.cells["kind"].astype(object)
    kinds[np.random.default_rng(0).random(len(kinds)) < 0.5] = None
    bags = bags_of(Features(cohort.x, cohort.cells.assign(kind=kinds)), kind="kind")
    assert kind_shares(bags).sum(axis=1) == pytest.approx(1)
    nobody = cohort.cells.assign(kind=kinds.where(cohort.cells["patient"] != "P02", None))
    with pytest.raises(InputError, match="kind-shares: no cell of P02 has a known kind"):
        kind_shares(bags_of(Features(cohort.x, nobody), kind="kind"))
    with pytest.raises(InputError, match="kind-shares: needs the kinds of cells; give --kind COLUMN"):
        kind_shares(bags_of(cohort))


def test_composition_tells_where_the_rare_kind_is_counted(make_cohort: Cohort) -> None:
    bags = bags_of(make_cohort(0.1), kind="kind")
    folds = bag_folds(bags, n_folds=5, seed=0)
    for name, numbers in ((KIND_SHARES, kind_shares(bags)), (MEAN_FEATURES, mean_features(bags))):
        found = cross_validate_numbers(numbers, bags, folds, encoder="e", head=name, device="cpu")
        assert set(found["head"]) == {name}
        ours = roc_auc_score(found["label"] == "AML", found["p_AML"])
        theirs = np.zeros(len(bags.names))
        for _, training, test in outer_folds(bags, folds):
            model = LogisticRegression(C=10, max_iter=1000).fit(numbers[training], bags.labels[training].astype(str))
            theirs[test] = model.predict_proba(numbers[test])[:, 0]
        assert ours == pytest.approx(roc_auc_score(bags.labels == "AML", theirs), abs=0.05)
        assert ours > 0.95
