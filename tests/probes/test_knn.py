import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from leukoscope.probes.head import Data, Job
from leukoscope.probes.knn import NearestHead, NearestProbe
from leukoscope.probes.nested import TrainingSet, inner_folds


@pytest.fixture(scope="module")
def cells() -> Data:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 300)
    x = rng.normal(size=(3, 16))[y] + 1.5 * rng.normal(size=(300, 16))
    return Data(torch.tensor(x, dtype=torch.float32), torch.tensor(y), 3)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_votes_are_scikit_learns(cells, k, metric):
    rows = np.arange(200)
    head = NearestProbe(k=(k,), whiten=(0,), metric=metric).fit(cells, [Job(TrainingSet(rows, ()))])[0].head
    peer = KNeighborsClassifier(k, metric=metric).fit(cells.x[:200].numpy(), cells.y[:200].numpy())
    np.testing.assert_allclose(head.probabilities(cells.x[200:]), peer.predict_proba(cells.x[200:].numpy()), atol=1e-6)


def test_whitened_votes_are_those_of_scikit_learns_whitened_components(cells):
    rows = np.arange(200)
    head = NearestProbe(k=(5,), whiten=(6,)).fit(cells, [Job(TrainingSet(rows, ()))])[0].head
    space = make_pipeline(StandardScaler(), PCA(6, whiten=True)).fit(cells.x[:200].numpy())
    train, test = (space.transform(x.numpy()) for x in (cells.x[:200], cells.x[200:]))
    peer = KNeighborsClassifier(5, metric="cosine").fit(train, cells.y[:200].numpy())
    np.testing.assert_allclose(head.probabilities(cells.x[200:]), peer.predict_proba(test), atol=1e-6)


def test_the_space_is_chosen_in_the_inner_folds(cells):
    rows = np.arange(240)
    inner = inner_folds(rows, cells.y.numpy(), np.arange(300), 4)
    chosen = NearestProbe(k=(5,)).fit(cells, [Job(TrainingSet(rows, inner))])[0].chosen
    assert chosen == {"k": 5, "whiten": 0}
    # Four features of the light outweigh what tells the kinds apart.
    light = 20 * torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    lit = Data(torch.cat([cells.x, light], dim=1), cells.y, 3)
    fitted = NearestProbe(k=(5,)).fit(lit, [Job(TrainingSet(rows, inner))])[0]
    assert fitted.chosen["whiten"] > 0
    # More axes than there are features are all of them.
    assert len(fitted.head.space.axes) == 20


def test_k_is_the_most_accurate_in_the_inner_folds(cells):
    rows = np.arange(240)
    inner = inner_folds(rows, cells.y.numpy(), np.arange(300), 4)
    fitted = NearestProbe(whiten=(0,)).fit(cells, [Job(TrainingSet(rows, inner))])[0]
    correct = {}
    for k in (1, 5, 20):
        hits = []
        for each in inner:
            peer = KNeighborsClassifier(k, metric="cosine").fit(cells.x[each.fit].numpy(), cells.y[each.fit].numpy())
            # The share of votes, first class of equals: what the head answers.
            answer = peer.predict_proba(cells.x[each.validation].numpy()).argmax(axis=1)
            hits.append(answer == cells.y[each.validation].numpy())
        correct[k] = np.concatenate(hits).mean()
    assert [each["accuracy"] for each in fitted.tried] == pytest.approx(list(correct.values()))
    assert correct[int(fitted.chosen["k"])] == max(correct.values())


def test_the_state_brings_the_head_back(cells):
    head = NearestProbe(k=(5,), metric="euclidean").fit(cells, [Job(TrainingSet(np.arange(100), ()))])[0].head
    again = NearestHead.from_state(head.state())
    torch.testing.assert_close(again.probabilities(cells.x), head.probabilities(cells.x))
