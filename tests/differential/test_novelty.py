import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import betabinom, binom
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from leukoscope.differential.novelty import (
    NEIGHBOURS,
    SAMPLE_FALSE_ALARM,
    NoveltyLimits,
    Reference,
    cells_to_notice,
    learn_novelty,
    sample_p,
)

RANDOM = np.random.default_rng(0)
CENTRES = RANDOM.normal(size=(4, 16)) * 3


def cells(kind: int, n: int) -> np.ndarray:
    return (CENTRES[kind] + RANDOM.normal(size=(n, 16))).astype(np.float32)


def known(n: int) -> Reference:
    y = np.arange(n) % 3
    return Reference(np.concatenate([cells(kind, 1) for kind in y]), y)


def test_the_knn_distance_is_that_of_scikit_learn() -> None:
    reference, x = known(200), cells(1, 30)
    index = NearestNeighbors(n_neighbors=NEIGHBOURS, metric="cosine", algorithm="brute").fit(reference.x)
    np.testing.assert_allclose(reference.knn_distance(x), index.kneighbors(x)[0][:, -1], atol=1e-5)


def test_the_mahalanobis_distance_is_that_of_scikit_learn() -> None:
    reference, x = known(200), cells(1, 30)
    means = np.stack([reference.x[reference.y == kind].mean(axis=0) for kind in range(3)])
    within = LedoitWolf(assume_centered=True).fit(reference.x - means[reference.y])
    squared = np.stack([within.mahalanobis(x - mean) for mean in means]).min(axis=0)
    np.testing.assert_allclose(reference.mahalanobis_distance(x), np.sqrt(squared), rtol=1e-4)


def test_the_covariance_is_estimated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, x = known(200), cells(1, 30)
    first = reference.mahalanobis_distance(x)
    monkeypatch.setattr(LedoitWolf, "fit", lambda *_: pytest.fail("estimated again"))
    np.testing.assert_array_equal(reference.mahalanobis_distance(x), first)


def test_known_cells_pass_the_limit_as_often_as_stated_and_an_unknown_kind_much_oftener() -> None:
    reference = known(600)
    limits = learn_novelty([(reference, known(2000).x)], false_alarm=0.05)
    assert limits is not None
    held_out, unknown = known(2000).x, cells(3, 500)
    for distance, limit in [(reference.knn_distance, limits.knn), (reference.mahalanobis_distance, limits.mahalanobis)]:
        alarms = int((distance(held_out) > limit).sum())
        assert binom.ppf(1e-4, 2000, 0.03) < alarms < binom.ppf(1 - 1e-4, 2000, 0.07)
        assert (distance(unknown) > limit).mean() > 0.9


def test_the_limit_is_the_conformal_quantile() -> None:
    reference, x = known(100), known(199).x
    limits = learn_novelty([(reference, x[:100]), (reference, x[100:])], false_alarm=0.01)
    assert limits is not None
    assert limits.held_out == 199
    assert limits.knn == np.sort(reference.knn_distance(x))[-2]


def test_too_few_cells_give_no_limit() -> None:
    assert learn_novelty([(known(100), known(98).x)], false_alarm=0.01) is None
    assert learn_novelty([(known(100), known(99).x)], false_alarm=0.01) is not None


def test_features_that_do_not_vary_give_no_limit_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    alike = Reference(np.ones((120, 4), np.float32), np.arange(120) % 2)
    assert learn_novelty([(alike, alike.x)]) is None
    assert "cannot be told" in caplog.text


def test_a_reference_comes_back_and_is_never_too_large(tmp_path: Path) -> None:
    reference = Reference.of(np.zeros((20_005, 2), np.float32), np.arange(20_005) % 3, seed=0)
    assert len(reference.x) == len(reference.y) == 20_000
    reference.write(tmp_path / "reference.safetensors")
    again = Reference.read(tmp_path / "reference.safetensors")
    np.testing.assert_array_equal(again.y, reference.y)
    np.testing.assert_array_equal(again.x, reference.x)


def limits_of(held_out: int) -> NoveltyLimits:
    return NoveltyLimits(knn=1.0, mahalanobis=1.0, false_alarm=0.01, held_out=held_out)


@pytest.mark.parametrize(("held_out", "n"), [(200, 500), (500, 2000), (5000, 20_000)])
def test_a_sample_of_known_kinds_is_seldom_flagged_however_few_cells_set_the_limit(held_out: int, n: int) -> None:
    """Limits are set and samples drawn anew 4,000 times; more than 1.5 % would come once in a thousand."""
    rank = math.ceil((held_out + 1) * 0.99)
    beyond = 1 - np.sort(RANDOM.random((4000, held_out)), axis=1)[:, rank - 1]
    p = [sample_p(int(novel), n, limits_of(held_out)) for novel in RANDOM.binomial(n, beyond)]
    assert np.mean(np.array(p) < SAMPLE_FALSE_ALARM) <= 0.015
    assert sample_p(0, n, limits_of(held_out)) == pytest.approx(1)


@pytest.mark.parametrize(("n", "detected"), [(200, 0.9), (500, 0.4), (2000, 0.1)])
def test_so_many_cells_are_noticed_with_the_power_asked_for(n: int, detected: float) -> None:
    limits = limits_of(5000)
    needed = cells_to_notice(n, limits, detected)
    assert needed is not None

    def flagged(unknown: int) -> float:
        known = betabinom(n - unknown, 50, 4951).rvs(4000, random_state=RANDOM)
        novel = known + RANDOM.binomial(unknown, detected, 4000)
        return float(np.mean([sample_p(int(each), n, limits) < SAMPLE_FALSE_ALARM for each in novel]))

    assert flagged(needed) > 0.94
    assert flagged(needed - 1) < 0.96


@pytest.mark.parametrize(("held_out", "n", "detected"), [(200, 30, 0.9), (200, 60, 0.02), (5000, 80, 0.3)])
def test_the_number_noticed_is_the_first_one_with_enough_power(held_out: int, n: int, detected: float) -> None:
    """Held against the sum over both numbers of novel cells, one number of unknown cells after the other."""
    limits, beyond = limits_of(held_out), math.ceil((held_out + 1) * 0.99)
    flags = [sample_p(novel, n, limits) < SAMPLE_FALSE_ALARM for novel in range(n + 1)]

    def power(unknown: int) -> float:
        known = betabinom(n - unknown, held_out + 1 - beyond, beyond).pmf(np.arange(n - unknown + 1))
        return float(np.convolve(known, binom(unknown, detected).pmf(np.arange(unknown + 1))) @ flags)

    enough = [unknown for unknown in range(n + 1) if power(unknown) >= 0.95]
    assert cells_to_notice(n, limits, detected) == (enough[0] if enough else None)


def test_what_is_not_detected_is_never_noticed() -> None:
    assert cells_to_notice(200, limits_of(5000), 0.01) is None
