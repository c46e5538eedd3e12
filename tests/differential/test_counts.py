from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from leukoscope.common.errors import InputError
from leukoscope.differential.counts import CountOptions, count
from leukoscope.differential.leukocytes import Leukocytes
from leukoscope.differential.ranges import Range, ReferenceRanges

from .conftest import plain_classifier

CONFUSION = np.array([[80, 15, 5], [10, 85, 5], [0, 20, 80]])
CLASSES = ("EOS", "LYM", "NEU")


def counted(calls: list[int], classes: tuple[str, ...] = CLASSES, **options: Any) -> dict[str, Any]:
    """The count of a sample with so many cells called each class, each with a probability of 0.8."""
    called = np.repeat(np.arange(3), calls)
    probabilities = np.where(np.arange(3) == called[:, None], 0.8, 0.1)
    return count(probabilities, plain_classifier(classes, CONFUSION), CountOptions(**options))


def test_counting_intervals_are_those_of_the_textbook() -> None:
    found = counted([7, 93, 0])["classes"]
    exact = [beta.ppf(0.025, 7, 94), beta.ppf(0.975, 8, 93)]
    np.testing.assert_allclose(found["EOS"]["clopper_pearson"], exact, rtol=1e-6)
    z, n, p = 1.959964, 100, 0.07
    middle, half = (p + z * z / 2 / n), z * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    wilson = [(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)]
    np.testing.assert_allclose(found["EOS"]["wilson"], wilson, rtol=1e-5)


def test_a_class_never_seen_gets_an_upper_bound_rather_than_nothing() -> None:
    found = counted([50, 50, 0])
    assert found["n"] == 100
    row = found["classes"]["NEU"]
    assert row["count"] == 0
    for name in ("wilson", "clopper_pearson", "composition", "patient"):
        low, high = row[name]
        assert low == pytest.approx(0, abs=1e-12)
        assert 0.005 < high < 0.05
    assert sum(row["count"] for row in found["classes"].values()) == 100
    for key in ("proportion", "corrected_proportion", "adjusted_proportion", "em_proportion"):
        assert sum(row[key] for row in found["classes"].values()) == pytest.approx(1)


def test_manual_differentials_are_the_binomial_limits_of_the_corrected_share() -> None:
    row = counted([60, 140, 300])["classes"]["NEU"]
    seen = round(200 * row["corrected_proportion"])
    np.testing.assert_allclose(
        row["manual"]["200"], [beta.ppf(0.025, seen, 201 - seen), beta.ppf(0.975, seen + 1, 200 - seen)], rtol=1e-6
    )
    widths = [np.ptp(row["manual"][cells]) for cells in ("100", "200", "500")]
    assert widths == sorted(widths, reverse=True)


def test_shares_of_the_leukocytes_leave_out_what_is_none() -> None:
    found = counted([60, 140, 300], classes=("EOS", "LYM", "platelet"))["classes"]
    assert found["platelet"]["leukocytes"] is None
    shares = [found[name]["leukocytes"]["value"] for name in ("EOS", "LYM")]
    assert sum(shares) == pytest.approx(1, abs=1e-6)
    assert shares[0] > found["EOS"]["corrected_proportion"]


def test_absolute_counts_are_shares_of_the_total() -> None:
    row = counted([60, 140, 300], total=8.0)["classes"]["NEU"]
    assert row["absolute"] == pytest.approx({key: 8 * value for key, value in row["leukocytes"].items()})
    assert counted([60, 140, 300])["classes"]["NEU"]["absolute"] is None


def test_what_lies_outside_its_range_is_flagged() -> None:
    found = counted([200, 100, 100], total=2.0)["classes"]
    assert {(each["unit"], each["flag"], each["certain"]) for each in found["EOS"]["flags"]} == {
        ("percent", "high", True),
        ("absolute", "high", True),
    }
    assert ("absolute", "low", True) in {(e["unit"], e["flag"], e["certain"]) for e in found["NEU"]["flags"]}
    barely = counted([6, 30, 64])["classes"]["LYM"]
    assert [(each["flag"], each["certain"]) for each in barely["flags"]] == [("low", False)]
    assert counted([200, 100, 100], ranges=ReferenceRanges({}))["classes"]["EOS"]["flags"] == []


def test_names_that_mean_no_class_and_no_kind_are_told() -> None:
    assert CountOptions().strangers(CLASSES) == []
    ranges = ReferenceRanges({("neutrofil", "percent"): Range(40, 70), ("smudge", "percent"): Range(0, 5)})
    said = Leukocytes({"platlet": False, "Basophils": True, "Smudge": False})
    asked = CountOptions(ranges=ranges, leukocytes=said)
    assert asked.strangers(CLASSES) == ["neutrofil", "platlet", "smudge"]
    assert asked.strangers((*CLASSES, "smudge")) == ["neutrofil", "platlet"]


@pytest.mark.parametrize("total", [0.0, float("inf"), float("nan")])
def test_a_total_that_is_none_is_refused(total: float) -> None:
    with pytest.raises(InputError, match="the total of leukocytes is to be above 0"):
        CountOptions(total=total)
