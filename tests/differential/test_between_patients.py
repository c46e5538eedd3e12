import numpy as np
import pytest
from scipy.stats import f_oneway
from sklearn.decomposition import PCA

from leukoscope.differential.between_patients import effective_cells, intraclass_correlation, joint_axis
from leukoscope.differential.posterior import composition_posterior

MEAN = np.array([[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.05, 0.25, 0.7]])


def called(rng: np.random.Generator, rho: float, mean: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """How many cells of each patient ``(G,)`` are called each class, by a row of the patient's own ``(G, K)``."""
    rows = rng.dirichlet(mean * (1 / rho - 1), len(cells)) if rho else np.tile(mean, (len(cells), 1))
    return np.array([rng.multinomial(n, row) for n, row in zip(cells, rows, strict=True)])


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
    assert (effective_cells(alike) > 500).all()
    assert (effective_cells(alike) <= 5000 + 1e-9).all()
    # 1 / 0.05 - 1 = 19 for the new patient, a little fewer as the mean is known from fifty.
    assert effective_cells(np.pad(differ, ((0, 0), (0, 1), (0, 0)))) == pytest.approx([18, 18, 18, 0], abs=7)
    apart = np.array([[[40, 0, 0]], [[0, 40, 0]], [[0, 0, 40]]])
    assert effective_cells(apart)[0] == 1


def test_so_intervals_cover_in_new_patients_whose_cells_are_called_otherwise() -> None:
    rng, rho, covered = np.random.default_rng(3), 0.03, np.zeros((2, 3))
    known = np.stack([called(rng, rho, row, np.full(40, 60)) for row in MEAN], axis=1)
    confusion = known.sum(axis=0)
    scaled = confusion * (effective_cells(known) / confusion.sum(axis=1))[:, None]
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


def along(rng: np.random.Generator, deviation: np.ndarray, patients: int, cells: int) -> np.ndarray:
    """Cells by patient, class and call ``(G, 3, 3)``, where patients differ from ``MEAN`` along one axis."""
    rows = (MEAN + rng.normal(size=patients)[:, None, None] * deviation).clip(min=0)
    rows /= rows.sum(axis=2, keepdims=True)
    return np.array([[rng.multinomial(cells, row) for row in patient] for patient in rows])


DEVIATION = np.array([[-0.06, 0.05, 0.01], [0.03, -0.08, 0.05], [0.0, -0.06, 0.06]])


def test_an_axis_is_found_as_large_as_patients_were_drawn_along_it() -> None:
    found = joint_axis(along(np.random.default_rng(4), DEVIATION, 300, 200))
    assert found is not None
    assert found.patients == 300
    sign = np.sign((found.deviation * DEVIATION).sum())
    np.testing.assert_allclose(sign * found.deviation, DEVIATION, atol=0.012)
    # Few patients say less exactly how far, and not too little: the noise's own share is taken off.
    few = [joint_axis(along(np.random.default_rng(seed), DEVIATION, 15, 60)) for seed in range(60)]
    sizes = [np.linalg.norm(axis.deviation) for axis in few if axis]
    assert len(sizes) > 50
    assert np.median(sizes) == pytest.approx(np.linalg.norm(DEVIATION), rel=0.15)


def test_it_is_the_first_principal_component_in_units_of_noise() -> None:
    counts = along(np.random.default_rng(5), DEVIATION, 40, 100)
    found = joint_axis(counts)
    assert found is not None
    noise = np.sqrt(counts.mean(axis=0) / 100 / 100)
    first = PCA(1).fit((counts / 100 / noise).reshape(40, -1)).components_[0]
    own = (found.deviation / noise).ravel()
    assert abs(own @ first) / np.linalg.norm(own) == pytest.approx(1, abs=1e-3)


def test_there_is_none_where_patients_do_not_differ_or_cannot_be_told_to() -> None:
    found = [joint_axis(along(np.random.default_rng(seed), 0 * DEVIATION, 20, 50)) for seed in range(100)]
    assert sum(axis is not None for axis in found) <= 5
    assert joint_axis(along(np.random.default_rng(0), DEVIATION, 1, 50)) is None
    singles = np.zeros((30, 3, 3), dtype=int)
    singles[np.arange(30), np.arange(30) % 3, np.arange(30) % 2] = 1
    assert joint_axis(singles) is None
