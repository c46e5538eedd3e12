from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leukoscope.differential.audited import FEWEST, audited_count, cells_needed
from leukoscope.differential.audited_leukocytes import audited_leukocytes, half_width, leukocyte_cells_needed

from .conftest import audited_sample, doubtful_sample

CLASSES = ("neutrophil", "lymphocyte", "eosinophil", "erythroblast", "platelet")
LEUKOCYTES = (True, True, True, False, False)
SHARE = np.array([0.34, 0.16, 0.04, 0.06, 0.30, 0.10])  # the last is none of them, which no classifier says
ROTTEN = np.array([
    [0.5, 0.2, 0.1, 0.1, 0.1], [0.3, 0.5, 0.0, 0.1, 0.1], [0.4, 0.1, 0.5, 0.0, 0.0], [0.1, 0.4, 0.0, 0.5, 0.0],
    [0.1, 0.0, 0.0, 0.1, 0.8], [0.3, 0.1, 0.1, 0.1, 0.4],
])  # fmt: skip
GOOD = np.vstack([0.95 * np.eye(5) + 0.01, np.full((1, 5), 0.2)])


sample = partial(audited_sample, share=SHARE)


def told(share: np.ndarray) -> list[float]:
    """What a laboratory reports: shares of the leukocytes, and erythroblasts for each of them."""
    return [*(share[:3] / share[:3].sum()), share[3] / share[:3].sum()]


@pytest.mark.parametrize("rates", [GOOD, ROTTEN], ids=["good", "rotten"])
@pytest.mark.parametrize("m", [50, 150])
def test_intervals_of_shares_of_the_leukocytes_cover(m: int, rates: np.ndarray) -> None:
    """Of 400 samples; at 95 % fewer than 361 come once in three thousand."""
    covered, patient = np.zeros((2, 4)), told(SHARE)
    for seed in range(400):
        predicted, seen, audit, truth = sample(400, m, seed, rates=rates)
        imaged = told(np.bincount(truth, minlength=6).astype(float))
        for k, each in enumerate(audited_leukocytes(np.eye(5)[predicted], seen, audit, CLASSES, LEUKOCYTES)[:4]):
            assert each is not None
            low, high = each.composition or (0.0, np.inf)
            covered[0, k] += low - 1e-12 <= imaged[k] <= high + 1e-12
            low, high = each.patient or (0.0, np.inf)
            covered[1, k] += low <= patient[k] <= high
    assert covered.min() >= 361


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 120), st.integers(120, 300))
def test_where_all_cells_are_leukocytes_both_counts_are_the_same(seed: int, m: int, n: int) -> None:
    random = np.random.default_rng(seed)
    predicted, audit = random.integers(0, 3, n), np.arange(n) < m
    truth = np.where(audit | (random.random(n) < 0.1), random.integers(0, 3, n), -1)
    alone = audited_leukocytes(np.eye(3)[predicted], truth, audit, CLASSES[:3], (True,) * 3)
    for share, of_all in zip(alone, audited_count(np.eye(3)[predicted], truth, audit).classes, strict=True):
        assert share is not None
        assert share.proportion == pytest.approx(of_all.proportion)
        for ours, theirs in ((share.composition, of_all.composition), (share.patient, of_all.patient)):
            assert (ours is None) == (theirs is None)
            assert theirs is None or ours == pytest.approx(theirs)


def test_where_all_cells_are_leukocytes_both_counts_by_probabilities_are_the_same() -> None:
    said, seen, audit, _ = doubtful_sample(600, 150, 3)
    shares, count = audited_leukocytes(said, seen, audit, CLASSES[:3], (True,) * 3), audited_count(said, seen, audit)
    for share, of_all in zip(shares, count.classes, strict=True):
        assert share is not None
        assert share.proportion == pytest.approx(of_all.proportion)
        assert share.composition == pytest.approx(of_all.composition)
    for first in (-1, seen):
        seen_now = np.broadcast_to(first, len(seen))
        shares = audited_leukocytes(said, seen_now, audit, CLASSES[:3], (True,) * 3)
        needed = leukocyte_cells_needed(shares, said, seen_now, audit, (True,) * 3, 0.03)
        expected = cells_needed(audited_count(said, seen_now, audit), said, seen_now, audit, 0.03)
        assert needed == pytest.approx(expected, abs=1)


def test_when_all_were_seen_the_shares_are_those_of_the_cells() -> None:
    predicted, _, _, truth = sample(300, 0, 3, rates=GOOD)
    found = audited_leukocytes(np.eye(5)[predicted], truth, np.ones(300, dtype=bool), CLASSES, LEUKOCYTES)
    shares = told(np.bincount(truth, minlength=6).astype(float))
    for each, share in zip(found[:4], shares, strict=True):
        assert each is not None
        assert each.proportion == pytest.approx(share)
        assert each.composition == pytest.approx((share, share))
    assert found[4] is None
    assert [each.of for each in found[:4] if each] == ["leukocytes"] * 3 + ["per leukocyte"]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(FEWEST, 60))
def test_an_interval_holds_what_people_have_called_already(seed: int, m: int) -> None:
    predicted, seen, audit, _ = sample(100, m, seed, rates=ROTTEN)
    seen = np.where(np.random.default_rng(seed).random(100) < 0.2, 0, seen)
    known, rest = np.bincount(seen[seen >= 0], minlength=6), (seen < 0).sum()
    for k, each in enumerate(audited_leukocytes(np.eye(5)[predicted], seen, audit, CLASSES, LEUKOCYTES)[:3]):
        assert each is not None
        assert each.composition is not None
        whole = known[:3].sum() + rest
        low, high = each.composition
        assert known[k] / whole - 1e-12 <= low <= high <= (known[k] + rest) / whole + 1e-12


def test_before_the_audit_there_are_shares_without_intervals() -> None:
    predicted, seen, audit, _ = sample(200, FEWEST - 1, 0, rates=GOOD)
    for each in audited_leukocytes(np.eye(5)[predicted], seen, audit, CLASSES, LEUKOCYTES)[:4]:
        assert each is not None
        assert each.proportion is not None
        assert each.composition is each.patient is None


def test_without_a_leukocyte_there_is_no_share_of_them() -> None:
    predicted, truth = np.array([3, 4] * 20), np.array([3, 4] * 20)
    found = audited_leukocytes(np.eye(5)[predicted], truth, np.ones(40, dtype=bool), CLASSES, LEUKOCYTES)
    assert [each and (each.proportion, each.composition, each.patient) for each in found] == [(None,) * 3] * 4 + [None]


def test_the_forecast_of_what_is_left_to_see_holds() -> None:
    """Reviewing as many more as it says comes to the half width asked for, about half the time."""
    reached, more_than_of_all = [], []
    for seed in range(40):
        predicted, seen, audit, truth = sample(1500, 100, seed, rates=GOOD)
        shares = audited_leukocytes(np.eye(5)[predicted], seen, audit, CLASSES, LEUKOCYTES)
        needed = leukocyte_cells_needed(shares, np.eye(5)[predicted], seen, audit, LEUKOCYTES, 0.04)
        of_all = cells_needed(audited_count(np.eye(5)[predicted], seen, audit), np.eye(5)[predicted], seen, audit, 0.04)
        more_than_of_all.append(needed - of_all)
        turns = np.random.default_rng(seed + 1000).permutation(np.flatnonzero(~audit))[:needed]
        audit[turns] = True
        then = audited_leukocytes(np.eye(5)[predicted], np.where(audit, truth, -1), audit, CLASSES, LEUKOCYTES)
        reached.append(half_width(then))
    assert 0.8 < np.median(reached) / 0.04 < 1.2
    assert np.median(more_than_of_all) > 0  # a share of half the cells is known less well than one of all


def test_where_all_cells_are_leukocytes_as_many_must_be_seen_for_both_counts() -> None:
    for seed, m in enumerate((0, 10, 40, 100)):
        random = np.random.default_rng(seed)
        truth, audit = random.integers(0, 3, 600), np.arange(600) < m
        predicted = np.where(random.random(600) < 0.9, truth, random.integers(0, 3, 600))
        seen = np.where(audit, truth, -1)
        shares = audited_leukocytes(np.eye(3)[predicted], seen, audit, CLASSES[:3], (True,) * 3)
        count = audited_count(np.eye(3)[predicted], seen, audit)
        ours = leukocyte_cells_needed(shares, np.eye(3)[predicted], seen, audit, (True,) * 3, 0.05)
        assert ours == pytest.approx(cells_needed(count, np.eye(3)[predicted], seen, audit, 0.05), abs=1)


def test_nothing_more_is_needed_once_it_is_reached_or_where_there_are_no_leukocytes() -> None:
    predicted, _, _, truth = sample(300, 0, 3, rates=GOOD)
    everything = np.ones(300, dtype=bool)
    shares = audited_leukocytes(np.eye(5)[predicted], truth, everything, CLASSES, LEUKOCYTES)
    assert leukocyte_cells_needed(shares, np.eye(5)[predicted], truth, everything, LEUKOCYTES, 0.02) == 0
    platelets, nobody = np.full(40, 4), np.zeros(40, dtype=bool)
    shares = audited_leukocytes(np.eye(5)[platelets], np.full(40, -1), nobody, CLASSES, LEUKOCYTES)
    assert leukocyte_cells_needed(shares, np.eye(5)[platelets], np.full(40, -1), nobody, LEUKOCYTES, 0.02) == 0
    assert half_width(shares) == 0
