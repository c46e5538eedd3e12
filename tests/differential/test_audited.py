from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ppi_py import ppi_mean_pointestimate

from leukoscope.differential.audited import FEWEST, AuditedCount, audited_count, cells_needed

from .conftest import audited_sample, doubtful_sample

SHARE = np.array([0.60, 0.28, 0.07, 0.05])
ROTTEN = np.array([[0.4, 0.3, 0.2, 0.1], [0.5, 0.3, 0.1, 0.1], [0.1, 0.2, 0.6, 0.1], [0.7, 0.1, 0.1, 0.1]])


sample = partial(audited_sample, share=SHARE, rates=ROTTEN)


def test_the_estimate_is_that_of_the_authors_package() -> None:
    predicted, seen, audit, truth = sample(500, 80, 0)
    found = audited_count(np.eye(4)[predicted], seen, audit)
    for k, each in enumerate(found.classes):
        # Theirs is for cells beyond the labelled ones; ours counts the labelled ones as they are.
        theirs = ppi_mean_pointestimate(
            (truth[audit] == k).astype(float), (predicted[audit] == k).astype(float), (predicted == k).astype(float),
            lam=1,
        )[0]  # fmt: skip
        rest = 420 * ((seen[audit] == k).mean() - (predicted[audit] == k).mean()) + (predicted[~audit] == k).sum()
        assert each.proportion == pytest.approx(np.clip((rest + (truth[audit] == k).sum()) / 500, 0, 1))
        assert each.proportion == pytest.approx(np.clip(theirs, 0, 1), abs=1e-9)


@pytest.mark.parametrize("m", [50, 150])
def test_intervals_cover_even_where_the_classifier_is_badly_wrong(m: int) -> None:
    """Of 400 samples; at 95 % fewer than 361 come once in three thousand."""
    covered, raw = np.zeros((2, 4)), np.zeros(4)
    for seed in range(400):
        predicted, seen, audit, truth = sample(400, m, seed)
        imaged = np.bincount(truth, minlength=4) / 400
        for k, each in enumerate(audited_count(np.eye(4)[predicted], seen, audit).classes):
            assert each.composition is not None
            assert each.patient is not None
            covered[0, k] += each.composition.low - 1e-12 <= imaged[k] <= each.composition.high + 1e-12
            covered[1, k] += each.patient.low <= SHARE[k] <= each.patient.high
        raw += np.abs(np.bincount(predicted, minlength=4) / 400 - imaged) < 0.03
    assert covered.min() >= 361
    assert raw[0] < 40


def test_by_probabilities_it_is_that_of_the_authors_package_too() -> None:
    said, seen, audit, truth = doubtful_sample(500, 80, 0, bent=2.0)
    for k, each in enumerate(audited_count(said, seen, audit).classes):
        theirs = ppi_mean_pointestimate((truth[audit] == k).astype(float), said[audit, k], said[:, k], lam=1)[0]
        assert each.proportion == pytest.approx(np.clip(theirs, (truth[audit] == k).sum() / 500, 1), abs=1e-9)


@pytest.mark.parametrize("bent", [1.0, 5.0], ids=["calibrated", "far too sure"])
def test_intervals_by_probabilities_cover_and_calibrated_ones_are_narrower_than_by_classes(bent: float) -> None:
    """Of 400 samples; at 95 % fewer than 361 come once in three thousand."""
    covered, width = np.zeros(3), np.zeros(2)
    for seed in range(400):
        said, seen, audit, truth = doubtful_sample(400, 150, seed, bent=bent)
        for k, each in enumerate(audited_count(said, seen, audit).classes):
            assert each.composition is not None
            low, high = each.composition
            covered[k] += low - 1e-12 <= (truth == k).mean() <= high + 1e-12
        by_class = audited_count(np.eye(3)[said.argmax(axis=1)], seen, audit)
        width += audited_count(said, seen, audit).half_width, by_class.half_width
    assert covered.min() >= 361
    assert bent > 1 or width[0] < 0.85 * width[1]


def test_the_first_forecast_goes_by_what_the_probabilities_say() -> None:
    """Nobody has looked yet, and so many cells do come to about the half width asked for."""
    reached = []
    for seed in range(40):
        said, _, _, truth = doubtful_sample(1500, 0, seed)
        nobody = np.full(1500, -1)
        needed = cells_needed(audited_count(said, nobody, nobody > 0), said, nobody, nobody > 0, 0.04)
        audit = np.zeros(1500, dtype=bool)
        audit[np.random.default_rng(seed).permutation(1500)[:needed]] = True
        reached.append(audited_count(said, np.where(audit, truth, -1), audit).half_width)
    assert 0.9 < np.median(reached) / 0.04 < 1.1


def test_an_estimate_lies_in_its_interval_and_not_below_what_was_seen() -> None:
    """A rare class that others were called: what is taken off for them could exceed what was called at all."""
    for seed in range(100):
        predicted, seen, audit, _ = sample(400, 120, seed)
        for k, each in enumerate(audited_count(np.eye(4)[predicted], seen, audit).classes):
            assert each.composition is not None
            assert each.composition.low - 1e-9 <= each.proportion <= each.composition.high + 1e-9
            assert each.proportion >= (seen == k).mean() - 1e-12


def test_when_all_were_seen_the_composition_is_known() -> None:
    predicted, _, _, truth = sample(200, 0, 3)
    found = audited_count(np.eye(4)[predicted], truth, np.ones(200, dtype=bool))
    for k, each in enumerate(found.classes):
        assert each.composition == pytest.approx(((truth == k).mean(),) * 2)
        assert each.patient is not None
        assert each.patient.half_width > 0.01


def test_cells_looked_at_for_their_doubt_are_counted_and_prove_nothing_of_others() -> None:
    predicted, seen, audit, truth = sample(500, 60, 4)
    doubtful = np.flatnonzero(~audit)[:100]
    more = seen.copy()
    more[doubtful] = truth[doubtful]
    before, after = audited_count(np.eye(4)[predicted], seen, audit), audited_count(np.eye(4)[predicted], more, audit)
    assert (before.audited, after.audited) == (60, 60)
    assert after.reviewed == 160
    assert after.half_width < before.half_width


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 200))
def test_what_people_called_bounds_what_can_be(seed: int, m: int) -> None:
    predicted, seen, audit, _ = sample(200, m, seed)
    for k, each in enumerate(audited_count(np.eye(4)[predicted], seen, audit).classes):
        assert each.confirmed == (seen == k).sum()
        if m < FEWEST:
            assert each.composition is None
        else:
            assert each.composition is not None
            assert each.confirmed / 200 <= each.composition.low + 1e-12
            assert each.composition.high <= 1 - ((seen >= 0).sum() - each.confirmed) / 200 + 1e-12


def test_a_cell_that_is_none_of_the_classes_counts_for_none() -> None:
    predicted, seen, audit, _ = sample(200, 200, 5)
    seen[:50] = 4
    found = audited_count(np.eye(4)[predicted], seen, audit)
    assert sum(each.proportion for each in found.classes) == pytest.approx(0.75)


def test_the_forecast_of_what_is_left_to_see_holds() -> None:
    """Reviewing as many more as it says comes to the half width asked for, about half the time."""
    reached = []
    for seed in range(40):
        predicted, seen, audit, truth = sample(1000, 1000, seed, rates=np.eye(4) * 0.9 + 0.025)
        order = np.random.default_rng(seed).permutation(1000)
        seen = np.full(1000, -1)
        seen[order[:60]] = truth[order[:60]]
        needed = cells_needed(audited_count(np.eye(4)[predicted], seen, audit), np.eye(4)[predicted], seen, audit, 0.03)
        seen[order[: 60 + needed]] = truth[order[: 60 + needed]]
        reached.append(audited_count(np.eye(4)[predicted], seen, audit).half_width)
    assert 0.8 < np.median(reached) / 0.03 < 1.2


def test_nothing_more_is_needed_once_it_is_reached() -> None:
    predicted, seen, audit, _ = sample(300, 300, 1)
    count: AuditedCount = audited_count(np.eye(4)[predicted], seen, audit)
    assert cells_needed(count, np.eye(4)[predicted], seen, audit, 0.02) == 0
    predicted, seen, audit, _ = sample(300, 5, 1)
    assert (
        cells_needed(audited_count(np.eye(4)[predicted], seen, audit), np.eye(4)[predicted], seen, audit, 0.9)
        == FEWEST - 5
    )
