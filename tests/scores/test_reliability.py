import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from leukoscope.scores.reliability import reliability


def test_it_is_scikit_learns_calibration_curve() -> None:
    random = np.random.default_rng(0)
    probability = random.random(500) * 0.9 + 0.05
    right = random.random(500) < probability
    found = reliability(probability, right)
    share, said = calibration_curve(right, probability, n_bins=10)
    filled = found.cells > 0
    np.testing.assert_allclose(found.right[filled], share)
    np.testing.assert_allclose(found.said[filled], said)
    assert found.cells.sum() == 500


def test_a_certain_answer_is_in_the_last_bin_and_empty_bins_are_not_defined() -> None:
    found = reliability(np.array([1.0, 1.0]), np.array([True, False]))
    assert found.cells.tolist() == [0] * 9 + [2]
    assert found.right[-1] == pytest.approx(0.5)
    assert np.isnan(found.said[:-1]).all()
