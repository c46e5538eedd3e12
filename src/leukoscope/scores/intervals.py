from collections.abc import Iterator

import numpy as np
from scipy.special import ndtr, ndtri

LEVEL = 0.95
# Weights at once: a million float32 are 4 MiB, which the passes over them find in the cache.
_CHUNK = 1_000_000


def resamples(
    strata: np.ndarray, n_bootstrap: int, *, groups: np.ndarray | None = None, seed: int = 0
) -> Iterator[np.ndarray]:
    """Bootstrap resamples of n cells as weights ``(n, b)`` float32, in chunks of b that make up ``n_bootstrap``.

    Without ``groups``, cells are drawn with replacement within their stratum (their class), so that every resample
    has the class counts of the set: an annotated set's composition is its maker's choice, not chance. With ``groups``,
    whole groups are drawn (all cells of a patient, or none), as cells of one patient are no independent witnesses.

    Args:
        strata: ``(n,)`` the stratum of each cell.
        n_bootstrap: how many resamples.
        groups: ``(n,)`` the group of each cell, or None.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(1, len(strata)))
    for start in range(0, n_bootstrap, step):
        size = min(step, n_bootstrap - start)
        if groups is not None:
            group = np.unique(groups, return_inverse=True)[1]
            yield _draw(generator, int(group.max()) + 1, size)[group]
            continue
        weights = np.empty((len(strata), size), np.float32)
        for stratum in np.unique(strata):
            members = np.flatnonzero(strata == stratum)
            weights[members] = _draw(generator, len(members), size)
        yield weights


def interval(estimate: float, bootstrapped: np.ndarray) -> tuple[float, float]:
    """The 95 % bias-corrected percentile interval (Efron & Tibshirani 1993, section 14.3, acceleration 0).

    The correction matters for scores that noise drives one way, such as the calibration error, which is larger in
    a resample than in the cells resampled. Such an interval is widened to hold the estimate where it would not.

    Args:
        estimate: the score of the cells as they are.
        bootstrapped: ``(B,)`` the score of each resample; undefined ones (NaN) are left out.

    Returns:
        Its two ends; NaN where nothing is defined.
    """
    values = bootstrapped[np.isfinite(bootstrapped)]
    if not np.isfinite(estimate) or not len(values):
        return float("nan"), float("nan")
    # float32 sums of the resamples and float64 ones of the estimate differ in the last digits.
    equal = np.isclose(values, estimate, rtol=1e-5, atol=1e-9)
    below = ((values < estimate) & ~equal).mean() + equal.mean() / 2
    bias = ndtri(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values)))
    tail = ndtri((1 + LEVEL) / 2)
    low, high = np.quantile(values, ndtr(2 * bias + np.array([-tail, tail])))
    return min(float(low), estimate), max(float(high), estimate)


def _draw(generator: np.random.Generator, n: int, size: int) -> np.ndarray:
    """How often each of ``n`` is drawn in ``size`` resamples of n: ``(n, size)`` float32."""
    draws = generator.integers(n, size=(size, n)) + np.arange(size)[:, None] * n
    counts = np.bincount(draws.ravel(), minlength=size * n)
    return counts.reshape(size, n).T.astype(np.float32)
