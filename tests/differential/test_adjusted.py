import logging

import numpy as np
import pytest
import quapy
from hypothesis import given
from hypothesis import strategies as st
from quapy.method.aggregative import ACC, EMQ
from scipy.special import softmax

from leukoscope.differential.adjusted import adjusted_proportions, em_proportions

CONFUSION = np.array([[80, 15, 5], [10, 85, 5], [0, 20, 80]])
RATES = CONFUSION / CONFUSION.sum(axis=1, keepdims=True)


@given(st.lists(st.integers(1, 100), min_size=3, max_size=3))
def test_expected_calls_give_back_the_composition(amounts: list[int]) -> None:
    p = np.array(amounts) / sum(amounts)
    calls = RATES.T @ p
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
    raw_error, adjusted_error = [], []
    for _ in range(50):
        kinds = random.multinomial(400, truth)
        counts = sum(random.multinomial(n, RATES[k]) for k, n in enumerate(kinds))
        raw_error.append(np.abs(counts / 400 - truth).sum())
        adjusted_error.append(np.abs(adjusted_proportions(counts, CONFUSION) - truth).sum())
    assert np.mean(adjusted_error) < 0.6 * np.mean(raw_error)


def test_classes_that_are_not_told_apart_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        adjusted_proportions(np.array([50, 50]), np.array([[501, 499], [499, 501]]))
    assert "hardly told apart" in caplog.text


@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_adjusted_count_of_quapy(seed: int) -> None:
    counts = np.random.default_rng(seed).multinomial(500, RATES.T @ [0.2, 0.3, 0.5])
    theirs = ACC.solve_adjustment(RATES.T, counts / 500, method="inversion", solver="minimize")
    np.testing.assert_allclose(adjusted_proportions(counts, CONFUSION), theirs, atol=2e-3)


def test_expectation_maximisation_is_that_of_quapy_and_finds_the_shift() -> None:
    random = np.random.default_rng(0)
    prevalence, share = np.array([0.4, 0.3, 0.3]), np.array([0.05, 0.15, 0.8])
    truth = random.choice(3, 4000, p=share)
    # Cells on a line; their probabilities are exact under the training prevalence.
    cells = random.normal(np.array([-1.5, 0.0, 1.5])[truth])
    logits = -0.5 * (cells[:, None] - np.array([-1.5, 0.0, 1.5])) ** 2 + np.log(prevalence)
    probabilities = softmax(logits, axis=1)
    found = em_proportions(probabilities, prevalence)
    quapy.environ["SAMPLE_SIZE"] = len(cells)
    theirs, _ = EMQ.EM(prevalence.copy(), probabilities, epsilon=1e-8)
    np.testing.assert_allclose(found, theirs, atol=1e-5)
    np.testing.assert_allclose(found, np.bincount(truth) / 4000, atol=0.03)
    assert np.abs(found - share).sum() < 0.3 * np.abs(np.bincount(probabilities.argmax(1)) / 4000 - share).sum()
