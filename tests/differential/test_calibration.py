import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from leukoscope.differential.calibration import apply_temperature, fit_temperature

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(4000, 4)) * 2
TRUTH = np.array([RANDOM.choice(4, p=p) for p in softmax(LOGITS, axis=1)])


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_it_finds_how_much_too_sure_a_head_is(factor: float) -> None:
    assert fit_temperature(softmax(LOGITS * factor, axis=1), TRUTH) == pytest.approx(factor, rel=0.06)


def test_it_is_the_optimum_that_a_general_minimiser_finds() -> None:
    def loss(t: np.ndarray) -> float:
        return float(-log_softmax(LOGITS * 3 / t[0], axis=1)[np.arange(len(TRUTH)), TRUTH].mean())

    expected = minimize(loss, [1.0], method="Nelder-Mead", options={"xatol": 1e-6}).x[0]
    assert fit_temperature(softmax(LOGITS * 3, axis=1), TRUTH) == pytest.approx(expected, rel=1e-3)


@given(st.floats(0.1, 10.0))
def test_the_ranking_of_classes_stays_and_rows_sum_to_one(temperature: float) -> None:
    before = softmax(LOGITS[:50], axis=1)
    after = apply_temperature(before, temperature)
    assert np.array_equal(after.argmax(1), before.argmax(1))
    np.testing.assert_allclose(after.sum(1), 1)


def test_temperature_one_changes_nothing_and_a_certain_head_stays_finite() -> None:
    before = softmax(LOGITS[:50], axis=1)
    np.testing.assert_allclose(apply_temperature(before, 1.0), before)
    assert np.isfinite(apply_temperature(np.array([[1.0, 0.0]], np.float32), 2.0)).all()
    assert np.isfinite(fit_temperature(np.array([[1.0, 0.0], [1.0, 0.0]], np.float32), np.array([0, 1])))
