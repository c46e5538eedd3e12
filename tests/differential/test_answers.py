import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from leukoscope.common.errors import InputError
from leukoscope.differential.answers import Answers, whose_are
from leukoscope.differential.posterior import composition_posterior, posterior_of, posteriors_of_patient


def judged(truth: np.ndarray, seed: int, moved: np.ndarray | float = 0.0) -> np.ndarray:
    """Calibrated probabilities ``(n, 3)`` of kinds that overlap on a line, ``moved`` along it."""
    x = 1.5 * truth + np.random.default_rng(seed).normal(size=len(truth)) + moved
    return softmax(-0.5 * (x[:, None] - 1.5 * np.arange(3)) ** 2, axis=1)


def known(cells: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    truth = np.arange(cells) % 3
    return truth, judged(truth, seed)


def of_patients(patients: int, cells: int, spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, probabilities and whose each cell is, where a patient's cells are all moved alike."""
    truth, whose = np.arange(patients * cells) % 3, np.repeat(np.arange(patients), cells)
    moved = spread * np.random.default_rng(9).normal(size=patients)
    return truth, judged(truth, 8, moved[whose]), whose


def test_answers_tell_sure_cells_from_doubtful_ones_of_a_class() -> None:
    truth, p = known()
    answers = Answers.learn(truth, p)
    assert len(answers.centres) == 6
    np.testing.assert_array_equal(np.sum(answers.counts, axis=1), np.bincount(truth))
    np.testing.assert_array_equal(answers.tally(p), np.sum(answers.counts, axis=0))
    np.testing.assert_array_equal(answers.confusion, answers.counts)
    # In the order of the classes, the surer one first.
    called = np.argmax(answers.centres, axis=1)
    assert called.tolist() == sorted(called)
    assert Answers.parse(answers.model_dump(mode="json"), where="x") == answers


def test_so_a_composition_is_known_better_than_by_classes_alone() -> None:
    truth, p = known()
    answers = Answers.learn(truth, p)
    confusion = np.zeros((3, 3))
    np.add.at(confusion, (truth, p.argmax(axis=1)), 1)
    error, width = np.zeros(2), np.zeros(2)
    for seed in range(12):
        kinds = np.repeat(range(3), np.random.default_rng(seed).multinomial(500, [0.5, 0.3, 0.2]))
        own, sample = np.bincount(kinds, minlength=3) / 500, judged(kinds, seed + 50)
        by_class = composition_posterior(np.bincount(sample.argmax(1), minlength=3), confusion, seed=seed, chains=24)
        by_answer = posterior_of(sample, answers, seed=seed, chains=24)
        for place, found in enumerate((by_class, by_answer)):
            error[place] += np.abs(found.composition.mean(axis=0) - own).sum()
            width[place] += np.ptp(found.interval(1, of_patient=False))
    assert width[1] < 0.85 * width[0]
    assert error[1] < 0.85 * error[0]


def test_where_patients_do_not_differ_visibly_each_class_is_one_answer() -> None:
    truth, p, whose = of_patients(12, 60, 0.0)
    answers = Answers.learn(truth, p, whose)
    np.testing.assert_array_equal(answers.centres, np.eye(3))
    assert answers.patients_axis is None
    np.testing.assert_array_equal(answers.tally(p), np.bincount(p.argmax(axis=1)))
    assert answers.effective is not None
    np.testing.assert_allclose(answers.confusion.sum(axis=1), answers.effective)


def test_patients_that_differ_are_known_by_an_axis_and_intervals_cover_in_new_ones() -> None:
    """Of 120 patients moved by half of what sets kinds apart; 95 % are 114."""
    truth, p, whose = of_patients(30, 240, 0.7)
    answers = Answers.learn(truth, p, whose)
    plain = Answers.learn(truth, p)
    assert len(answers.centres) == 6
    assert answers.patients == 30
    covered = np.zeros((2, 3))
    for seed in range(120):
        rng = np.random.default_rng((3, seed))
        kinds = np.repeat(range(3), rng.multinomial(400, [0.6, 0.3, 0.1]))
        sample, own = judged(kinds, 1000 + seed, 0.7 * rng.normal()), np.bincount(kinds, minlength=3) / 400
        for place, each in enumerate((plain, answers)):
            found = posterior_of(sample, each, seed=seed, chains=16)
            for k in range(3):
                low, high = found.interval(k, of_patient=False)
                covered[place, k] += low - 1e-9 <= own[k] <= high + 1e-9
    assert (covered[0] / 120).max() < 0.6
    assert (covered[1] / 120).min() > 0.85


def test_what_is_not_known_of_a_patient_hardly_blurs_the_difference_of_two_samples() -> None:
    """Of 60 patients with two samples each; 95 % are 57."""
    answers = Answers.learn(*of_patients(30, 240, 0.7))
    covered, width, shares = np.zeros(3), np.zeros(2), ([0.6, 0.3, 0.1], [0.5, 0.3, 0.2])
    for seed in range(60):
        rng = np.random.default_rng((4, seed))
        moved, amounts = 0.7 * rng.normal(), [rng.multinomial(400, share) for share in shares]
        cells = [judged(np.repeat(range(3), own), 2000 + seed + 500 * j, moved) for j, own in enumerate(amounts)]
        together = posteriors_of_patient(cells, answers, seed=seed, chains=16)
        apart = [posterior_of(own, answers, seed=seed + 99 * j, chains=16) for j, own in enumerate(cells)]
        for place, (first, second) in enumerate((together, apart)):
            ends = np.quantile(second.composition - first.composition, [0.025, 0.975], axis=0)
            width[place] += np.ptp(ends, axis=0).mean()
            if place == 0:
                truth = (amounts[1] - amounts[0]) / 400
                covered += (ends[0] - 1e-9 <= truth) & (truth <= ends[1] + 1e-9)
    assert covered.min() >= 50
    assert width[0] < 0.75 * width[1]


def test_few_distinct_probabilities_are_as_many_answers() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1])
    answers = Answers.learn(truth, np.eye(2)[truth])
    np.testing.assert_array_equal(answers.centres, np.eye(2))
    np.testing.assert_array_equal(answers.counts, [[3, 0], [0, 3]])


def test_answers_that_do_not_fit_each_other_are_refused() -> None:
    good = Answers.learn(*known(300)).model_dump()
    for changed, said in (
        ({"counts": good["counts"][:2]}, "centres and effective need one entry"),
        ({"axis": [[0.0]] * 3}, "need 3 rows of 6 answers"),
        ({"effective": [1.0]}, "one entry for each of the 3 classes"),
    ):
        with pytest.raises(InputError, match=said):
            Answers.parse({**good, **changed}, where="classifier.json")


def test_cells_without_a_patient_are_each_of_their_own() -> None:
    cells = pd.DataFrame({"cell_id": ["a", "b", "c"], "patient": ["P1", None, "P1"]})
    told = pd.DataFrame({"cell_id": ["c", "b", "a"]})
    found = whose_are(told, cells, "patient")
    assert found is not None
    assert found.tolist() == ["P1", "b", "P1"]
    assert whose_are(told, cells, None) is None
