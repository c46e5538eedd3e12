from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from leukoscope.bags.bags import bags_of
from leukoscope.bags.few import auc_error, detectable_auc, few_patients
from leukoscope.bags.folds import bag_folds
from leukoscope.encoders.features import Features

Cohort = Callable[..., Features]


def test_the_error_of_an_area_is_that_of_many_samples() -> None:
    rng = np.random.default_rng(0)
    # The exponential Q1 and Q2 are exact for exponential scores: the area is then rate / (1 + rate).
    truth = np.repeat([1, 0], [15, 25])
    areas = []
    for _ in range(4000):
        scores = np.concatenate([rng.exponential(4.0, 15), rng.exponential(1.0, 25)])
        areas.append(roc_auc_score(truth, scores))
    assert np.mean(areas) == pytest.approx(0.8, abs=0.005)
    assert auc_error(0.8, 15, 25) == pytest.approx(np.std(areas), rel=0.05)


def test_more_patients_show_smaller_differences() -> None:
    found = [detectable_auc(n, n) for n in (5, 10, 20, 80)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.65
    assert detectable_auc(1, 2) is None


def test_small_classes_and_shared_images_are_told(make_cohort: Cohort) -> None:
    cohort = make_cohort(0.1, patients=12)
    few = bags_of(cohort)
    notes = few_patients(few, bag_folds(few, n_folds=3, seed=0), 0.25)
    assert [note.partition(":")[0] for note in notes[:2]] == ["AML", "healthy"]
    assert "6 patients, about 2.0 tested and 1.0 held back a fold" in notes[0]
    assert "(6 and 6 patients)" in notes[-1]
    many = bags_of(make_cohort(0.1, patients=40))
    assert len(few_patients(many, bag_folds(many, n_folds=4, seed=0), 0.25)) == 1
    cells = cohort.cells.assign(site=cohort.cells["patient"].str[-1].astype(int) // 2)
    linked = bags_of(Features(cohort.x, cells), group="site")
    assert "12 patients are 5 independent groups" in " ".join(
        few_patients(linked, bag_folds(many, n_folds=4, seed=0), 0.25)
    )
