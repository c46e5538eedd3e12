import numpy as np
import pytest
from scipy.stats import f_oneway

from leukoscope.differential.between_patients import effective_cells, intraclass_correlation
from leukoscope.differential.posterior import composition_posterior

MEAN = np.array([[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.05, 0.25, 0.7]])


def called(rng: np.random.Generator, rho: float, mean: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """How many cells of each patient ``(G,)`` are called each class, by a row of the patient's own ``(G, K)``."""
    rows = rng.dirichlet(mean * (1 / rho - 1), len(cells)) if rho else np.tile(mean, (len(cells), 1))
    return np.array([rng.multinomial(n, row) for n, row in zip(cells, rows, strict=True)])


def listed(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, call and patient of each cell of counts ``(G, K, K)`` by patient, truth and call."""
    patient, truth, call = np.repeat(np.indices(counts.shape).reshape(3, -1), counts.ravel(), axis=1)
    return truth, call, patient


def test_of_two_classes_it_is_that_of_an_analysis_of_variance() -> None:
    counts = called(np.random.default_rng(0), 0.1, np.array([0.7, 0.3]), np.array([30, 12, 50, 7, 21]))
    n = counts.sum(axis=1)
    f = f_oneway(*(np.repeat([0.0, 1.0], own) for own in counts)).statistic
    usual = (n.sum() - (n**2).sum() / n.sum()) / (len(n) - 1)
    assert intraclass_correlation(counts) == pytest.approx((f - 1) / (f + usual - 1))


@pytest.mark.parametrize("rho", [0.0, 0.02, 0.2])
def test_it_finds_the_correlation_that_cells_were_drawn_by(rho: float) -> None:
    rng = np.random.default_rng(1)
    counts = called(rng, rho, MEAN[0], rng.integers(5, 200, 1000))
    assert intraclass_correlation(counts) == pytest.approx(rho, abs=0.003 + 0.1 * rho)


def test_it_is_nothing_where_it_cannot_be_told() -> None:
    assert intraclass_correlation(np.array([[5, 3]])) == 0
    assert intraclass_correlation(np.array([[5, 3], [0, 0]])) == 0
    assert intraclass_correlation(np.array([[1, 0], [0, 1], [1, 0]])) == 0
    assert intraclass_correlation(np.array([[5, 0], [7, 0]])) == 0


def test_a_row_counts_for_its_cells_where_patients_are_alike_and_for_few_where_they_differ() -> None:
    rng = np.random.default_rng(2)
    alike = np.stack([called(rng, 0.0, row, np.full(50, 100)) for row in MEAN], axis=1)
    differ = np.stack([called(rng, 0.05, row, np.full(50, 100)) for row in MEAN], axis=1)
    assert (effective_cells(*listed(alike), 3) > 500).all()
    assert (effective_cells(*listed(alike), 3) <= 5000 + 1e-9).all()
    # 1 / 0.05 - 1 = 19 for the new patient, a little fewer as the mean is known from fifty.
    assert effective_cells(*listed(differ), 4) == pytest.approx([18, 18, 18, 0], abs=7)
    apart = np.array([[[40, 0, 0]], [[0, 40, 0]], [[0, 0, 40]]])
    assert effective_cells(*listed(apart), 1 + 2)[0] == 1


def test_so_intervals_cover_in_new_patients_whose_cells_are_called_otherwise() -> None:
    rng, rho, covered = np.random.default_rng(3), 0.03, np.zeros((2, 3))
    known = np.stack([called(rng, rho, row, np.full(40, 60)) for row in MEAN], axis=1)
    confusion = known.sum(axis=0)
    scaled = confusion * (effective_cells(*listed(known), 3) / confusion.sum(axis=1))[:, None]
    for seed in range(150):
        cells = rng.multinomial(500, [0.6, 0.3, 0.1])
        counts = np.concatenate([called(rng, rho, MEAN[k], cells[k : k + 1]) for k in range(3)]).sum(axis=0)
        for place, each in enumerate((confusion, scaled)):
            posterior = composition_posterior(counts, each, seed=seed, chains=16)
            for k in range(3):
                low, high = posterior.interval(k, of_patient=False)
                covered[place, k] += low - 1e-9 <= cells[k] / 500 <= high + 1e-9
    plain, honest = covered / 150
    assert plain.max() < 0.75
    assert honest.min() > 0.88
