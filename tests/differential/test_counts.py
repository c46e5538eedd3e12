import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from leukoscope.differential.counts import adjusted_proportions, count

CONFUSION = np.array([[80, 15, 5], [10, 85, 5], [0, 20, 80]])
CLASSES = ("EOS", "LYM", "NEU")


@given(st.lists(st.integers(1, 100), min_size=3, max_size=3))
def test_expected_calls_give_back_the_composition(amounts: list[int]) -> None:
    p = np.array(amounts) / sum(amounts)
    calls = (CONFUSION / CONFUSION.sum(1, keepdims=True)).T @ p
    np.testing.assert_allclose(adjusted_proportions(calls * 1e6, CONFUSION), p, atol=1e-6)


def test_two_classes_give_the_textbook_formula() -> None:
    """Forman 2008: (observed - false positive rate) / (true positive rate - false positive rate)."""
    adjusted = adjusted_proportions(np.array([60, 40]), np.array([[90, 10], [20, 80]]))
    assert adjusted[0] == pytest.approx((0.6 - 0.2) / (0.9 - 0.2))


def test_what_cannot_be_is_clipped_to_the_nearest_composition() -> None:
    adjusted = adjusted_proportions(np.array([100, 0, 0]), CONFUSION)
    assert adjusted.min() >= 0
    assert adjusted.sum() == pytest.approx(1)
    assert adjusted[0] == pytest.approx(1)


def test_correction_has_less_error_than_the_raw_count_under_a_shift_of_prevalence() -> None:
    random = np.random.default_rng(0)
    truth = np.array([0.02, 0.28, 0.70])
    rates = CONFUSION / CONFUSION.sum(1, keepdims=True)
    raw_error, adjusted_error = [], []
    for _ in range(50):
        kinds = random.multinomial(400, truth)
        counts = sum(random.multinomial(n, rates[k]) for k, n in enumerate(kinds))
        raw_error.append(np.abs(counts / 400 - truth).sum())
        adjusted_error.append(np.abs(adjusted_proportions(counts, CONFUSION) - truth).sum())
    assert np.mean(adjusted_error) < 0.6 * np.mean(raw_error)


def test_intervals_are_those_of_the_textbook() -> None:
    found = count(np.repeat([0, 1], [7, 93]), CLASSES, CONFUSION)["classes"]
    exact = [beta.ppf(0.025, 7, 94), beta.ppf(0.975, 8, 93)]
    np.testing.assert_allclose(found["EOS"]["clopper_pearson"], exact, rtol=1e-6)
    z, n, p = 1.959964, 100, 0.07
    middle, half = (p + z * z / 2 / n), z * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    wilson = [(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)]
    np.testing.assert_allclose(found["EOS"]["wilson"], wilson, rtol=1e-5)


def test_a_class_never_seen_gets_an_upper_bound_rather_than_nothing() -> None:
    found = count(np.repeat([0, 1], [50, 50]), CLASSES, CONFUSION)
    assert found["n"] == 100
    assert found["classes"]["NEU"]["count"] == 0
    for name in ("wilson", "clopper_pearson"):
        low, high = found["classes"]["NEU"][name]
        assert low == pytest.approx(0, abs=1e-12)
        assert 0.03 < high < 0.04
    assert sum(row["count"] for row in found["classes"].values()) == 100
    assert sum(row["adjusted_proportion"] for row in found["classes"].values()) == pytest.approx(1)


def test_classes_that_are_not_told_apart_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        adjusted_proportions(np.array([50, 50]), np.array([[501, 499], [499, 501]]))
    assert "hardly told apart" in caplog.text
