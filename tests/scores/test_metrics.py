import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from leukoscope.scores.metrics import METRICS, PER_CLASS, measure, score
from leukoscope.scores.predictions import predictions

CLASSES = ["a", "b", "c", "d"]


def cells(n: int, n_classes: int, *, ties: bool = False, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(n_classes, size=n)
    logits = generator.normal(size=(n, n_classes))
    logits[np.arange(n), truth] += 1
    if ties:
        logits = logits.round()
    # float32, as predictions are stored, so that clipping is the same.
    probabilities = np.exp(logits).astype(np.float32).astype(np.float64)
    return truth, probabilities / probabilities.sum(axis=1, keepdims=True)


def by_scikit_learn(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    predicted, present = probabilities.argmax(axis=1), np.unique(truth)
    support = np.array([(truth == k).sum() for k in present])
    found = {
        "accuracy": reference.accuracy_score(truth, predicted),
        "balanced_accuracy": np.mean([(predicted[truth == k] == k).mean() for k in present]),
        "kappa": reference.cohen_kappa_score(truth, predicted),
        "log_loss": reference.log_loss(truth, probabilities, labels=range(probabilities.shape[1])),
    }
    for average in ("macro", "weighted"):
        arguments = {"labels": present, "average": average, "zero_division": 0}
        for name in ("precision", "recall", "f1"):
            found[f"{name}_{average}"] = getattr(reference, f"{name}_score")(truth, predicted, **arguments)
        weights = support if average == "weighted" else None
        for name, area in (("roc_auc", reference.roc_auc_score), ("pr_auc", reference.average_precision_score)):
            found[f"{name}_{average}"] = np.average(
                [area(truth == k, probabilities[:, k]) for k in present], weights=weights
            )
    return found


def plain(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    return {name: values[0] for name, values in measure(truth, probabilities, np.ones((len(truth), 1))).overall.items()}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n_classes", [2, 4, 8])
def test_metrics_are_those_of_scikit_learn(n_classes: int, ties: bool) -> None:
    truth, probabilities = cells(300, n_classes, ties=ties)
    for name, expected in by_scikit_learn(truth, probabilities).items():
        assert plain(truth, probabilities)[name] == pytest.approx(expected, abs=1e-9), name


def votes(n: int, n_classes: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes ``(n,)`` and the votes ``(n, n_classes)`` of k neighbours each, half of them right."""
    generator = np.random.default_rng(0)
    truth = generator.integers(n_classes, size=n)
    return truth, np.stack([generator.multinomial(k, 0.5 / n_classes + 0.5 * row) for row in np.eye(n_classes)[truth]])


@pytest.mark.parametrize(("n_classes", "k"), [(4, 5), (8, 7), (4, 20)])
def test_cells_with_as_many_votes_are_equals_whoever_has_the_rest(n_classes: int, k: int) -> None:
    truth, counts = votes(400, n_classes, k)
    names, ids = np.array([f"c{i}" for i in range(n_classes)]), np.arange(400).astype(str)
    found = score(predictions(ids, names[truth], counts / k, list(names), encoder="e", head="knn"))
    areas = [reference.roc_auc_score(truth == label, counts[:, label]) for label in range(n_classes)]
    precisions = [reference.average_precision_score(truth == label, counts[:, label]) for label in range(n_classes)]
    assert found["roc_auc_macro"] == pytest.approx(np.mean(areas), abs=1e-9)
    assert found["pr_auc_macro"] == pytest.approx(np.mean(precisions), abs=1e-9)
    most, right = counts.max(axis=1), counts.argmax(axis=1) == truth
    gaps = [abs((right[most == number] - number / k).sum()) for number in np.unique(most)]
    if k < 15:  # Every number of votes has one of the fifteen bins to itself.
        assert found["ece"] == pytest.approx(sum(gaps) / 400, abs=1e-6)


def test_roc_auc_over_all_classes_is_that_of_scikit_learn() -> None:
    truth, probabilities = cells(300, 4)
    for average in ("macro", "weighted"):
        expected = reference.roc_auc_score(truth, probabilities, multi_class="ovr", average=average)
        assert plain(truth, probabilities)[f"roc_auc_{average}"] == pytest.approx(expected)


def test_a_class_that_the_fold_lacks_does_not_count() -> None:
    truth, probabilities = cells(300, 4)
    present = truth != 2
    truth, probabilities = truth[present], probabilities[present]
    for name, expected in by_scikit_learn(truth, probabilities).items():
        assert plain(truth, probabilities)[name] == pytest.approx(expected, abs=1e-9), name


def test_a_class_never_predicted_scores_zero() -> None:
    truth = np.array([0, 1, 1, 2])
    probabilities = np.array([[0.8, 0.1, 0.1]] * 3 + [[0.1, 0.1, 0.8]])
    assert plain(truth, probabilities)["precision_macro"] == pytest.approx((1 / 3 + 0 + 1) / 3)
    assert plain(truth, probabilities)["f1_macro"] == pytest.approx((0.5 + 0 + 1) / 3)


def test_one_class_alone_leaves_auc_and_kappa_undefined() -> None:
    truth, probabilities = np.zeros(5, dtype=int), np.full((5, 2), [0.9, 0.1])
    found = plain(truth, probabilities)
    assert found["accuracy"] == 1
    assert np.isnan(found["roc_auc_macro"])
    assert np.isnan(found["kappa"])


def test_certainty_in_a_wrong_class_costs_a_finite_log_loss() -> None:
    truth, probabilities = np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]])
    expected = reference.log_loss(truth, probabilities.astype(np.float32))
    assert plain(truth, probabilities)["log_loss"] == pytest.approx(expected, rel=1e-5)


def test_ece_is_the_gap_of_calibration_curve_weighted_by_bin() -> None:
    truth, probabilities = cells(500, 4)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=15)
    sizes = np.histogram(confidence, bins=np.linspace(0, 1, 16))[0]
    expected = (np.abs(accuracy - mean_confidence) * sizes[sizes > 0]).sum() / 500
    assert plain(truth, probabilities)["ece"] == pytest.approx(expected)


def test_perfectly_calibrated_bins_have_no_error() -> None:
    truth = np.array([0] * 7 + [1] * 3)
    assert plain(truth, np.full((10, 2), [0.7, 0.3]))["ece"] == pytest.approx(0, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(10, 60), st.integers(0, 10_000), st.booleans())
def test_a_weight_is_a_number_of_copies(n_classes: int, n: int, seed: int, ties: bool) -> None:
    truth, probabilities = cells(n, n_classes, ties=ties, seed=seed)
    weights = np.random.default_rng(seed).integers(0, 4, size=(n, 3))
    weights[0] = 1
    found = measure(truth, probabilities, weights.astype(np.float32))
    for i in range(3):
        copies = np.repeat(np.arange(n), weights[:, i])
        alone = measure(truth[copies], probabilities[copies], np.ones((len(copies), 1)))
        for name in METRICS:
            np.testing.assert_allclose(found.overall[name][i], alone.overall[name][0], atol=1e-5, err_msg=name)
        for name in PER_CLASS:
            np.testing.assert_allclose(found.per_class[name][:, i], alone.per_class[name][:, 0], atol=1e-5)


def test_score_reads_a_block_of_predictions() -> None:
    truth, probabilities = cells(50, 4)
    ids, labels = np.arange(50).astype(str), np.array(CLASSES)[truth]
    found = score(predictions(ids, labels, probabilities, CLASSES, encoder="e", head="linear"))
    assert list(found) == list(METRICS)
    assert found == pytest.approx(plain(truth, probabilities), abs=1e-6)
