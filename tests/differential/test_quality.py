import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from leukoscope.cells.measures import MEASURES, measures_of
from leukoscope.cells.simulate import SimulateSettings, Simulation
from leukoscope.cells.spoiling.camera import Camera
from leukoscope.cells.spoiling.kinds import spoil_cell
from leukoscope.common.errors import InputError
from leukoscope.differential.quality import JUDGED, REASONS, QualityLimits, reasons
from leukoscope.differential.quality_limits import learn_quality

# What each kind of spoiling is called; a cell that is nearly out of the field leaves its middle empty.
CALLED = {
    "empty": {"empty"},
    "saturation": {"saturated", "empty"},
    "defocus": {"out of focus", "empty"},
    "cut-off": {"cut off", "empty"},
    "doublet": {"doublet", "cut off"},
}


# Far from all classes of ``drawn_of_classes``, in one measure each.
BAD = {"foreground": -9.0, "detail": -9.0, "saturated": 9.0, "cut": 9.0, "beside": 9.0}


def drawn(n: int, seed: int, together: float = 0.5) -> pd.DataFrame:
    """Measures of n cells, whose parts agree in this share."""
    rng = np.random.default_rng(seed)
    common, own = rng.standard_normal((n, 1)), rng.standard_normal((n, len(JUDGED)))
    return pd.DataFrame(np.sqrt(together) * common + np.sqrt(1 - together) * own, columns=list(JUDGED))


@pytest.mark.parametrize("together", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("n", "rate"), [(1000, 0.01), (300, 0.05)])
def test_new_cells_are_set_aside_at_no_more_than_the_rate(n: int, rate: float, together: float) -> None:
    shares = []
    for seed in range(30):
        limits = learn_quality(drawn(n, seed, together), false_alarm=rate)
        shares.append((reasons(drawn(4000, 1000 + seed, together), limits) != "").mean())
    # The share itself varies from one training set to the next: as Beta(n rate, n (1 - rate)) does.
    assert np.mean(shares) < rate + 3 * np.sqrt(rate * (1 - rate) / n / len(shares))
    assert np.mean(shares) > 0.6 * rate


def drawn_of_classes(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Measures of n cells, a tenth of them of a class that is paler, less sharp and farther off the middle."""
    table, classes = drawn(n, seed), np.where(np.arange(n) % 10 == 0, "odd", np.where(np.arange(n) % 2, "A", "B"))
    odd = classes == "odd"
    return table.assign(
        foreground=table["foreground"] - 1.5 * odd, sharpness=table["sharpness"] - odd, aside=table["aside"] + 1.5 * odd
    ), classes


@pytest.mark.parametrize(("n", "rate"), [(3000, 0.03), (1500, 0.1)])
def test_new_cells_of_every_class_are_set_aside_at_no_more_than_the_rate_and_bad_ones_are(n: int, rate: float) -> None:
    shares, of_odd_without, caught = [], [], []
    for seed in range(20):
        (table, classes), (new, of_new) = drawn_of_classes(n, seed), drawn_of_classes(6000, 1000 + seed)
        limits = learn_quality(table, classes, false_alarm=rate)
        beyond = pd.Series(reasons(new, limits) != "")
        shares.append(beyond.groupby(of_new).mean())
        without = learn_quality(table, false_alarm=rate)
        of_odd_without.append((reasons(new[of_new == "odd"], without) != "").mean())
        caught.append([(reasons(new.assign(**{name: bad}), limits) != "").mean() for name, bad in BAD.items()])
    # Of a rate that is itself known from a tenth of the cells only.
    assert (pd.concat(shares, axis=1).mean(axis=1) < rate + 3 * np.sqrt(rate * (1 - rate) / (n / 10) / 20)).all()
    assert np.mean(of_odd_without) > 2 * rate
    assert np.min(caught) > 0.99


def test_a_class_that_holds_too_many_of_the_worst_cells_is_named(caplog: pytest.LogCaptureFixture) -> None:
    table, classes = drawn_of_classes(1500, 2)
    odd = classes == "odd"
    with caplog.at_level(logging.WARNING):
        limits = learn_quality(table.assign(second=table["second"] + 3 * odd), classes, false_alarm=0.01)
    assert set(limits.lost) == {"A", "B", "odd"}
    assert f"in some classes: odd {100 * limits.lost['odd']:.2g} %; label more" in caplog.text
    new, of_new = drawn_of_classes(20_000, 3)
    beyond = reasons(new.assign(second=new["second"] + 3 * (of_new == "odd")), limits) != ""
    assert limits.lost["odd"] == pytest.approx(beyond[of_new == "odd"].mean(), abs=3 * np.sqrt(0.03 / 150))


def test_cells_of_one_class_have_the_limits_of_cells_of_none() -> None:
    table = drawn(1200, 3)
    assert learn_quality(table, np.full(1200, "NEU", dtype=object)) == learn_quality(table)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.2]), st.integers(200, 600))
def test_training_cells_of_a_class_never_alarm_more_often_than_the_rate(seed: int, rate: float, n: int) -> None:
    table, classes = drawn_of_classes(n, seed)
    limits = learn_quality(table.round(1), classes, false_alarm=rate)
    beyond = pd.Series(reasons(table.round(1), limits) != "").groupby(classes).agg(["sum", "size"])
    # No limit lies beyond the worst cell of a measure, whichever class it is of.
    assert (beyond["sum"] <= np.maximum(rate * (beyond["size"] + 1), len(JUDGED))).all()


def test_one_measure_gets_the_conformal_rank() -> None:
    table = drawn(399, 0).assign(**dict.fromkeys(JUDGED[1:], 0.0))
    limits = learn_quality(table, false_alarm=0.05)
    # foreground is bad where it is low: the 20th lowest of 399.
    assert limits.limits[JUDGED[0]] == pytest.approx(np.sort(table[JUDGED[0]])[19])
    assert limits.alarms == pytest.approx(19 / 399)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.01, 0.05, 0.2]), st.integers(30, 500))
def test_training_cells_never_alarm_more_often_than_the_rate(seed: int, rate: float, n: int) -> None:
    # Rounded, so that many are equal.
    table = drawn(n, seed).round(1)
    limits = learn_quality(table, false_alarm=rate)
    assert (reasons(table, limits) != "").sum() <= rate * (n + 1)
    assert limits.alarms == pytest.approx((reasons(table, limits) != "").mean())


def test_too_few_cells_learn_no_limits_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        limits = learn_quality(drawn(40, 0), false_alarm=0.01)
    assert limits.limits == {}
    assert "40 cells are too few" in caplog.text
    assert "--false-alarm" in caplog.text
    assert set(reasons(drawn(40, 1), limits)) == {""}
    assert learn_quality(drawn(0, 0)).limits == {}


def test_the_most_severe_reason_is_given_and_what_cannot_be_told_is_none() -> None:
    limits = QualityLimits(limits=dict.fromkeys(JUDGED, 0.0), false_alarm=0.01, cells=1000, alarms=0.01)
    good = {name: (1.0 if name in ("foreground", "detail", "sharpness") else -1.0) for name in JUDGED}
    bad = {name: -value for name, value in good.items()}
    rows = [
        good, {**bad, "cut": -1.0}, {**bad, "foreground": 1.0}, {**good, "beside": 1.0},
        {**good, "cut": 1.0, "second": 1.0},
        {**good, "detail": -1.0, "cut": 1.0}, dict.fromkeys(JUDGED, np.nan), {**good, "foreground": -1.0, "cut": 1.0},
    ]  # fmt: skip
    found = reasons(pd.DataFrame(rows), limits)
    assert list(found) == ["", "empty", "saturated", "doublet", "cut off", "out of focus", "", "cut off"]
    assert {type(each) for each in found} == {str}
    assert set(found) - {""} <= set(REASONS)


def test_a_measure_that_is_never_known_has_no_limit() -> None:
    limits = learn_quality(drawn(2000, 0).assign(detail=np.nan), false_alarm=0.05)
    assert "detail" not in limits.limits
    assert len(limits.limits) == len(JUDGED) - 1


def test_limits_travel_as_json() -> None:
    limits = learn_quality(drawn(2000, 0), false_alarm=0.02)
    assert QualityLimits.model_validate_json(limits.model_dump_json()) == limits
    with pytest.raises(InputError, match="no measure 'blur'; choose from foreground"):
        QualityLimits.parse({**limits.model_dump(), "limits": {"blur": 1.0}}, where="x")


@pytest.fixture(scope="module")
def rendered() -> np.ndarray:
    simulation = Simulation(SimulateSettings(cells=1100, size=48, seed=5))
    return np.concatenate([simulation.render(range(at, at + 50))[0] for at in range(0, 1100, 50)])


@pytest.fixture(scope="module")
def learned(rendered: np.ndarray) -> QualityLimits:
    return learn_quality(table_of(rendered[:700]), false_alarm=0.03)


def table_of(pixels: np.ndarray) -> pd.DataFrame:
    values = [measures_of(pixels[at : at + 50], 255.0) for at in range(0, len(pixels), 50)]
    return pd.DataFrame(np.concatenate(values), columns=list(MEASURES))


def test_held_out_cells_are_counted_at_about_the_stated_rate(rendered: np.ndarray, learned: QualityLimits) -> None:
    found = (reasons(table_of(rendered[700:]), learned) != "").sum()
    # Of a rate that is itself known from 700 cells only: three of its deviations above.
    rate = 0.03 + 3 * np.sqrt(0.03 * 0.97 / 700)
    assert found <= binom.ppf(0.999, 400, rate)


@pytest.mark.parametrize("kind", CALLED)
def test_planted_faults_are_caught_and_called(kind: str, rendered: np.ndarray, learned: QualityLimits) -> None:
    camera = Camera(255.0, np.array([rendered.mean() + 2 * rendered.std()]), 28 / 48)
    pixels = rendered[700:760]
    spoiled = [
        spoil_cell(cell, kind, 1.0, camera, np.random.default_rng(i), second=pixels[i - 1])
        for i, cell in enumerate(pixels)
    ]
    found = reasons(table_of(np.stack(spoiled)), learned)
    assert (found != "").mean() > 0.8
    assert np.isin(found[found != ""], list(CALLED[kind])).mean() > 0.8
