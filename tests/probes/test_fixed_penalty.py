import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from leukoscope.probes.fixed_penalty import FixedPenaltyProbe
from leukoscope.probes.head import Data, Job
from leukoscope.probes.nested import TrainingSet


@pytest.fixture(scope="module")
def cells() -> Data:
    """400 cells of three overlapping classes; ten features of unequal scales, not centred."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    x = (rng.normal(size=(3, 10))[y] + rng.normal(size=(400, 10))) * np.geomspace(0.3, 3, 10) + 1
    return Data(torch.tensor(x, dtype=torch.float32), torch.tensor(y), 3)


@pytest.mark.parametrize(("rule", "c"), [("text", 100 / (3 * 300)), ("code", 10 * 3 / 100)])
def test_it_is_scikit_learns_regression_at_the_papers_penalty(cells: Data, rule: str, c: float) -> None:
    rows = np.arange(300)
    (fitted,) = FixedPenaltyProbe(rule=rule, tolerance=1e-5).fit(cells, [Job(TrainingSet(rows, ()))])
    peer = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit(cells.x[:300].double().numpy(), cells.y[:300].numpy())
    expected = peer.predict_proba(cells.x[300:].double().numpy())
    assert fitted.chosen == {"C": pytest.approx(c)}
    np.testing.assert_allclose(fitted.head.probabilities(cells.x[300:]).numpy(), expected, atol=1e-4)


def test_only_classes_and_cells_of_the_training_set_count(cells: Data) -> None:
    rows = np.flatnonzero(cells.y.numpy() != 2)[:200]
    (fitted,) = FixedPenaltyProbe(rule="text").fit(cells, [Job(TrainingSet(rows, ()))])
    assert fitted.chosen == {"C": pytest.approx(100 / (2 * 200))}
