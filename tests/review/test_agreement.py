import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as reference

from leukoscope.review.agreement import agreement, cohen_kappa, fleiss_kappa


@pytest.mark.parametrize("seed", range(5))
def test_fleiss_kappa_is_that_of_statsmodels(seed):
    random = np.random.default_rng(seed)
    readings = np.where(random.random((80, 4)) < 0.6, random.integers(0, 5, (80, 1)), random.integers(0, 5, (80, 4)))
    counts, _ = aggregate_raters(readings, 5)
    assert fleiss_kappa(counts) == pytest.approx(reference(counts), abs=1e-12)


def test_kappa_of_fleiss_original_example():
    # Fleiss 1971 as given on the method's encyclopaedia page: ten subjects, fourteen raters, five categories.
    counts = np.array([
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ])  # fmt: skip
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_labels", [2, 6, 300])
def test_kappa_of_two_is_that_of_scikit_learn(seed, n_labels):
    random = np.random.default_rng(seed)
    first = random.integers(0, n_labels, 80).astype(np.int16)
    second = np.where(random.random(80) < 0.6, first, random.integers(0, n_labels, 80)).astype(np.int16)
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


def test_pairs_count_only_the_cells_that_both_labelled():
    opinions = np.array([[0, 0, -1], [1, 2, 1], [2, 2, 2], [1, 1, -1], [-1, 0, 0]])
    found = agreement(opinions, ["ann", "bob", "cleo"], 4)
    pairs = {(pair.first, pair.second): pair for pair in found.pairs}
    assert pairs["ann", "bob"].cells == 4
    assert pairs["ann", "bob"].same == 0.75
    assert pairs["ann", "bob"].kappa == pytest.approx(cohen_kappa_score([0, 1, 2, 1], [0, 2, 2, 1]))
    assert found.fleiss_cells == 2


def test_kappa_is_not_defined_where_all_say_one_thing():
    assert cohen_kappa(np.zeros(9, int), np.zeros(9, int)) is None
    assert fleiss_kappa(np.array([[3, 0], [3, 0]])) is None
    assert agreement(np.full((0, 2), -1), ["ann", "bob"], 3).fleiss is None
