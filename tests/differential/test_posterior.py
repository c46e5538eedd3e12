import numpy as np
import pytest
from scipy.special import betaln
from scipy.stats import binom

from leukoscope.differential.posterior import Posterior, composition_posterior

CONFUSION = np.array([[180, 15, 5], [10, 185, 5], [0, 20, 180]])


def exact_two_classes(counts: np.ndarray, confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The posterior of class 0's share of the patient on a grid, M summed out by brute force."""
    share, true, false = (np.linspace(0.5, n - 0.5, n) / n for n in (400, 120, 120))

    def beta_log(x: np.ndarray, a: float, b: float) -> np.ndarray:
        return (a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - betaln(a, b)

    called = share[:, None, None] * true[:, None] + (1 - share[:, None, None]) * false
    log = binom.logpmf(counts[0], counts.sum(), called) + beta_log(share, 0.5, 0.5)[:, None, None]
    log = log + beta_log(true, confusion[0, 0] + 1, confusion[0, 1] + 1)[:, None]
    log = log + beta_log(false, confusion[1, 0] + 1, confusion[1, 1] + 1)
    weight = np.exp(log - log.max()).sum(axis=(1, 2))
    return share, weight / weight.sum()


@pytest.mark.parametrize("counts", [[60, 140], [15, 185], [190, 10]])
def test_two_classes_have_the_posterior_of_a_grid(counts: list[int]) -> None:
    confusion = np.array([[90, 10], [15, 85]])
    found = composition_posterior(np.array(counts), confusion).patient[:, 0]
    share, weight = exact_two_classes(np.array(counts), confusion)
    mean = float((share * weight).sum())
    assert found.mean() == pytest.approx(mean, abs=0.006)
    assert found.std() == pytest.approx(np.sqrt(((share - mean) ** 2 * weight).sum()), rel=0.1)


def test_a_classifier_that_does_not_err_leaves_the_composition_known() -> None:
    sure = composition_posterior(np.array([30, 100, 370]), np.eye(3, dtype=int) * 1_000_000)
    np.testing.assert_allclose(sure.composition.mean(axis=0), [0.06, 0.2, 0.74], atol=1e-4)
    assert np.ptp([sure.interval(0, of_patient=False)]) < 1e-3
    low, high = sure.interval(0, of_patient=True)
    assert low == pytest.approx(0.042, abs=0.005)
    assert high == pytest.approx(0.083, abs=0.006)


def test_the_patient_is_less_certain_than_the_cells_that_were_imaged() -> None:
    found = composition_posterior(np.array([30, 100, 370]), CONFUSION)
    for k in range(3):
        assert np.ptp(found.interval(k, of_patient=True)) > np.ptp(found.interval(k, of_patient=False))


def test_a_class_never_seen_gets_an_upper_bound() -> None:
    found = composition_posterior(np.array([0, 100, 400]), CONFUSION)
    for of_patient in (False, True):
        low, high = found.interval(0, of_patient=of_patient)
        assert low == 0
        assert 0 < high < 0.03


def test_intervals_cover_what_they_name() -> None:
    """Of 300 drawn samples; at 95 % fewer than 272 or more than 299 would come once in ten thousand."""
    random = np.random.default_rng(1)
    rates, share = CONFUSION / CONFUSION.sum(axis=1, keepdims=True), np.array([0.1, 0.3, 0.6])
    covered = np.zeros((2, 3))
    for number in range(300):
        confusion = np.stack([random.multinomial(200, row) for row in rates])
        kinds = random.multinomial(400, share)
        counts = sum(random.multinomial(n, rates[k]) for k, n in enumerate(kinds))
        found = composition_posterior(np.asarray(counts), confusion, seed=number, chains=24)
        for place, truth in enumerate((kinds / 400, share)):
            for k in range(3):
                low, high = found.interval(k, of_patient=bool(place))
                covered[place, k] += low <= truth[k] <= high
    assert covered.min() >= 270
    assert covered.mean() <= 297


def test_many_cells_do_not_hold_the_chains_at_what_they_were_called() -> None:
    """Of 40 samples of 50,000 cells that are often called wrongly; at 95 % fewer than 33 come once in a hundred."""
    random = np.random.default_rng(2)
    rates, share = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]]), np.array([0.9, 0.07, 0.03])
    covered = 0
    for number in range(40):
        confusion = np.stack([random.multinomial(200, row) for row in rates])
        counts = random.multinomial(50_000, rates.T @ share)
        low, high = composition_posterior(counts, confusion, seed=number, chains=24).interval(0, of_patient=True)
        covered += low <= share[0] <= high
    assert covered >= 33


def test_shares_of_some_classes_alone_sum_to_one() -> None:
    found = composition_posterior(np.array([30, 100, 370]), CONFUSION)
    leukocytes = found.among(np.array([True, True, False]))
    np.testing.assert_allclose(leukocytes.patient.sum(axis=1), 1)
    assert not leukocytes.patient[:, 2].any()
    nothing = Posterior(np.array([[0.0, 0.0, 1.0]]), np.array([[0.0, 0.0, 1.0]])).among(np.array([True, True, False]))
    assert nothing.composition.tolist() == [[0, 0, 0]]


def test_the_same_seed_gives_the_same_draws() -> None:
    counts = np.array([30, 100, 370])
    first, again, other = (composition_posterior(counts, CONFUSION, seed=seed).patient for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
