"""What few patients allow to say, told before the models are trained."""

import math

import numpy as np
import pandas as pd

from leukoscope.bags.bags import Bags

_FEW = 10
_Z = 1.959964


def few_patients(bags: Bags, folds: pd.DataFrame, validation_share: float) -> list[str]:
    """Warnings where classes are small for the folds, and what an area under the curve could show at best.

    The last note gives the smallest area that differs from 0.5 with 80 % power at 5 % (two-sided), by the standard
    error of Hanley & McNeil 1982 (Radiology 143:29-36), for the smallest class against all others, were every patient
    tested once: a best case, for models of several folds add their own spread.
    """
    counts = {name: int((bags.labels == name).sum()) for name in bags.classes}
    n_folds = folds["fold"].nunique()
    notes = []
    for name, count in counts.items():
        tested = count / n_folds
        held = count * (1 - 1 / n_folds) * validation_share
        if tested < 2 or held < 2 or count < _FEW:
            notes.append(
                f"{name}: {count} patients, about {tested:.1f} tested and {held:.1f} held back a fold; "
                "scores of single folds will jump"
            )
    alone = len(np.unique(bags.linked))
    if alone < len(bags.linked):
        notes.append(f"{len(bags.linked)} patients are {alone} independent groups, as some share images or a group")
    name, least = min(counts.items(), key=lambda item: item[1])
    others = len(bags.names) - least
    shown = detectable_auc(least, others)
    told = f"an area of at least {shown:.2f}" if shown is not None else "no area under the curve"
    notes.append(f"{name} against the rest ({least} and {others} patients): {told} can be told from 0.5 (power 80 %)")
    return notes


def auc_error(area: float, positive: int, negative: int) -> float:
    """The standard error of an area under the ROC curve (Hanley & McNeil 1982, with their exponential Q1 and Q2)."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positive - 1) * (q1 - area**2) + (negative - 1) * (q2 - area**2)
    return math.sqrt(max(variance, 0.0) / (positive * negative))


def detectable_auc(positive: int, negative: int, power_z: float = 0.841621) -> float | None:
    """The smallest area, to 0.01, that a two-sided test at 5 % tells from 0.5; None where not even 0.99 can be.

    Args:
        positive: patients of the class.
        negative: all others.
        power_z: the normal quantile of the power; the default is that of 80 %.
    """
    for percent in range(51, 100):
        area = percent / 100
        apart = area - 0.5
        if apart >= _Z * auc_error(0.5, positive, negative) + power_z * auc_error(area, positive, negative):
            return area
    return None
