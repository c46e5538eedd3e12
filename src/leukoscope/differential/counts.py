import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import binomtest

from leukoscope.common.errors import InputError
from leukoscope.differential.adjusted import adjusted_proportions, em_proportions
from leukoscope.differential.classifier import ClassifierInfo
from leukoscope.differential.leukocytes import Leukocytes, as_word, kind_of
from leukoscope.differential.posterior import Posterior, posterior_of
from leukoscope.differential.ranges import ReferenceRanges, flags

MANUAL = (100, 200, 500)
"""Cells that people count for a differential by eye."""


@dataclass(frozen=True)
class CountOptions:
    """What a laboratory decides of a count.

    Args:
        total: leukocytes in 10^9/L, of which ``absolute`` is the share; its own error is not known here.
        ranges: reference ranges, of which ``flags`` tells; by default those that come with Leukoscope.
        leukocytes: which classes are; by default those of ``leukocytes.csv``. Others are taken to be.
        seed: of the posterior's draws.

    Raises:
        InputError: when the total is not above 0.
    """

    total: float | None = None
    ranges: ReferenceRanges = field(default_factory=ReferenceRanges.read)
    leukocytes: Leukocytes = field(default_factory=Leukocytes)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a total that is none."""
        if self.total is not None and not 0 < self.total < math.inf:
            raise InputError(f"the total of leukocytes is to be above 0 (10^9/L), not {self.total:g}")

    def strangers(self, classes: Iterable[str]) -> list[str]:
        """Names in the two tables that are none of ``classes`` and no kind of cell that is known: misspelt, perhaps."""
        known = {text for name in classes for text in (name, as_word(name))}
        said = self.ranges.names | self.leukocytes.said.keys()
        return sorted(name for name in said if name not in known and kind_of(name) is None)


def count(probabilities: np.ndarray, info: ClassifierInfo, options: CountOptions | None = None) -> dict[str, Any]:
    """The differential of one sample, raw and corrected for the classifier's confusions.

    The raw proportions come with two 95 % intervals that cover counting error only: what another draw of as many
    cells, called by the same classifier, would give (``wilson`` covers 95 % on average, ``clopper_pearson`` at least
    95 % always). Neither knows of the classifier's errors.

    ``corrected`` does (:func:`~leukoscope.differential.posterior.posterior_of`), and has two intervals more:
    ``composition`` is for the share among the cells that were imaged, of which the classifier's errors are all that is
    unknown; ``patient`` for the share in the blood they are a sample of. ``adjusted`` and ``em`` are the two standard
    point estimates beside it. All of them assume that cells of a class look here as they did in training.

    ``manual`` tells what a person's differential of 100, 200 or 500 cells that found the corrected share would prove of
    the patient: exact binomial limits, as in the table of Rümke 1979 (Laboratory Medicine 10).

    Args:
        probabilities: calibrated, of each counted cell ``(n, K)``.
        info: of the classifier that gave them: its K classes, their shares of the training cells, and how it errs.
        options: what a laboratory decides; None takes the defaults.

    Returns:
        ``n``, ``assumed_leukocytes``, the classes that nobody knows to be leukocytes or not and that are taken to be,
        and ``classes``, a dict for each class. Shares of the leukocytes alone, which is what laboratories report, stand
        under ``leukocytes``; it is the same as ``patient`` where all classes are leukocytes.
    """
    options = options or CountOptions()
    n, known, classes = len(probabilities), options.leukocytes, info.classes
    counts = np.bincount(probabilities.argmax(1), minlength=len(classes))
    posterior = posterior_of(probabilities, info.answers, seed=options.seed)
    kinds = [known.kind_of(name) for name in classes]
    is_leukocyte = np.array([kind is None or kind.is_leukocyte for kind in kinds])
    points = {
        "adjusted_proportion": adjusted_proportions(counts, np.array(info.confusion)),
        "em_proportion": em_proportions(probabilities, np.array(info.prevalence)),
    }
    among = posterior.among(is_leukocyte)
    table = {}
    for k, (name, kind) in enumerate(zip(classes, kinds, strict=True)):
        row = _raw(int(counts[k]), n) | {point: float(values[k]) for point, values in points.items()}
        row |= _corrected(posterior, k, n)
        row["leukocytes"] = _share(among, k) if is_leukocyte[k] else None
        row["absolute"] = _absolute(row["leukocytes"], options.total)
        limits = options.ranges.of_class(name)
        row["ranges"] = {unit: list(each) for unit, each in limits.items()}
        row["flags"] = flags(row, limits)
        row["loinc"] = kind.loinc if kind else None
        table[name] = row
    return {"n": n, "total": options.total, "assumed_leukocytes": known.assumed(classes), "classes": table}


def _raw(called: int, n: int) -> dict[str, Any]:
    test = binomtest(called, n)
    return {
        "count": called,
        "proportion": called / n,
        "wilson": list(test.proportion_ci(0.95, "wilson")),
        "clopper_pearson": list(test.proportion_ci(0.95, "exact")),
    }


def _corrected(posterior: Posterior, k: int, n: int) -> dict[str, Any]:
    corrected = float(posterior.composition[:, k].mean())
    manual = {cells: binomtest(round(cells * corrected), cells).proportion_ci(0.95, "exact") for cells in MANUAL}
    return {
        "corrected_count": corrected * n,
        "corrected_proportion": corrected,
        "composition": list(posterior.interval(k, of_patient=False)),
        "patient": list(posterior.interval(k, of_patient=True)),
        "manual": {str(cells): list(limits) for cells, limits in manual.items()},
    }


def _share(posterior: Posterior, k: int) -> dict[str, float]:
    low, high = posterior.interval(k, of_patient=True)
    return {"value": float(posterior.composition[:, k].mean()), "low": low, "high": high}


def _absolute(share: dict[str, float] | None, total: float | None) -> dict[str, float] | None:
    return None if share is None or total is None else {key: value * total for key, value in share.items()}
