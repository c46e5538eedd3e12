import numpy as np
import pytest
from scipy import stats

from leukoscope.scores.intervals import interval, resamples


def test_resamples_keep_the_class_counts() -> None:
    strata = np.array([0] * 30 + [1] * 5)
    weights = np.concatenate(list(resamples(strata, 200)), axis=1)
    assert weights.shape == (35, 200)
    assert (weights[:30].sum(axis=0) == 30).all()
    assert (weights[30:].sum(axis=0) == 5).all()
    assert len(np.unique(weights, axis=1).T) > 190


def test_groups_come_whole() -> None:
    groups = np.repeat(np.arange(10), 7)
    weights = np.concatenate(list(resamples(np.zeros(70), 100, groups=groups)), axis=1).reshape(10, 7, 100)
    assert (weights == weights[:, :1]).all()
    assert (weights[:, 0].sum(axis=0) == 10).all()


def test_the_seed_decides() -> None:
    one, same, other = (next(resamples(np.zeros(20), 10, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_interval_of_accuracy_is_that_of_scipy() -> None:
    right = np.random.default_rng(0).random(400) < 0.9
    weights = np.concatenate(list(resamples(np.zeros(400), 4000)), axis=1)
    found = interval(right.mean(), right @ weights / 400)
    expected = stats.bootstrap((right,), np.mean, n_resamples=4000, method="BCa", rng=1).confidence_interval
    assert found == pytest.approx(tuple(expected), abs=0.005)


def test_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        right = generator.random(200) < 0.85
        weights = np.concatenate(list(resamples(np.zeros(200), 300, seed=trial)), axis=1)
        low, high = interval(right.mean(), right @ weights / 200)
        hits += low <= 0.85 <= high
    assert 0.91 <= hits / 300 <= 0.98


def test_interval_holds_its_estimate_and_survives_undefined_resamples() -> None:
    low, high = interval(0.5, np.array([0.6, 0.7, np.nan, 0.65]))
    assert low == 0.5
    assert high <= 0.7
    assert np.isnan(interval(float("nan"), np.array([0.6]))).all()
    assert interval(1.0, np.ones(100)) == (1.0, 1.0)
