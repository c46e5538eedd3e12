import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from leukoscope.scores import neighbours
from leukoscope.scores.neighbours import Metric, knn, nearest


def features(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_plain_vote_is_that_of_scikit_learn(k: int, metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", 1000)
    train, test, labels = 9 + features(200, 0), 9 + features(70, 1), torch.arange(200) % 4
    reference = KNeighborsClassifier(k, metric=metric).fit(train.numpy(), labels.numpy()).predict_proba(test.numpy())
    np.testing.assert_allclose(knn(train, labels, test, k, 4, metric=metric).numpy(), reference, atol=1e-6)


def test_weighted_vote_is_that_of_instance_discrimination() -> None:
    train, test, labels = features(50, 0), features(20, 1), torch.arange(50) % 3
    cosine = torch.nn.functional.cosine_similarity(test[:, None], train[None], dim=2)
    values, index = cosine.topk(7)
    votes = torch.zeros(20, 3).scatter_add_(1, labels[index], (values / 0.07).exp())
    expected = votes / votes.sum(1, keepdim=True)
    torch.testing.assert_close(knn(train, labels, test, 7, 3, temperature=0.07), expected)


def test_small_temperature_does_not_overflow() -> None:
    assert knn(features(50, 0), torch.arange(50) % 3, features(9, 1), 7, 3, temperature=1e-4).isfinite().all()


def test_of_equal_neighbours_the_first_row_comes_first() -> None:
    train = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 3.0], [4.0, 0.0]])
    _, index = nearest(train, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 3)
    assert index.tolist() == [[0, 2, 4], [1, 3, 0]]


def test_a_class_nobody_voted_for_has_probability_zero_and_k_is_cut_to_the_training_cells() -> None:
    probabilities = knn(features(4, 0), torch.tensor([0, 0, 1, 1]), features(3, 1), 50, 3)
    assert probabilities.tolist() == [[0.5, 0.5, 0.0]] * 3
