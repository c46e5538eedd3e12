import numpy as np
import pytest
import torch
from sklearn._loss import HalfMultinomialLoss
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model._linear_loss import LinearModelLoss
from sklearn.preprocessing import StandardScaler

from leukoscope.probes.basis import Bases
from leukoscope.probes.head import Data, Job
from leukoscope.probes.linear import LinearHead, LinearProbe
from leukoscope.probes.nested import TrainingSet
from leukoscope.probes.softmax import SoftmaxRegressions
from leukoscope.probes.softmax_cells import OwnCells, SharedCells


@pytest.fixture(scope="module")
def cells() -> Data:
    """600 cells of four unequal, overlapping classes; features with unequal scales and a far-off mean."""
    rng = np.random.default_rng(0)
    y = rng.choice(4, 600, p=[0.4, 0.3, 0.2, 0.1])
    x = rng.normal(size=(4, 24))[y] + 1.5 * rng.normal(size=(600, 24)) @ rng.normal(size=(24, 24)) / 4
    x = x * np.geomspace(0.01, 10, 24) + 5
    return Data(torch.tensor(x, dtype=torch.float32), torch.tensor(y), 4)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_probabilities_and_coefficients_are_scikit_learns_at_every_penalty(cells, class_weight):
    penalties = (1e-3, 1e-1, 1.0)
    train = [np.arange(0, 500), np.arange(100, 600)]
    probe = LinearProbe(C=penalties, class_weight=class_weight, tolerance=1e-6)
    solved = probe.solve(cells, train, [penalties, penalties])
    for rows, heads in zip(train, solved, strict=True):
        scaler = StandardScaler().fit(cells.x[rows].double().numpy())
        for c, head in zip(penalties, heads, strict=True):
            peer = LogisticRegression(C=c, tol=1e-8, max_iter=10_000, class_weight=class_weight)
            peer.fit(scaler.transform(cells.x[rows].double().numpy()), cells.y[rows].numpy())
            expected = peer.predict_proba(scaler.transform(cells.x.double().numpy()))
            np.testing.assert_allclose(head.probabilities(cells.x).numpy(), expected, atol=2e-4)
            weight = head.weight.double().numpy() * scaler.scale_
            np.testing.assert_allclose(weight - weight.mean(axis=0), peer.coef_ - peer.coef_.mean(axis=0), atol=1e-3)


@pytest.mark.parametrize("kind", [SharedCells, OwnCells])
def test_loss_and_gradient_are_scikit_learns(cells, kind):
    rows = torch.arange(500)
    bases = Bases.of(cells.x, [rows])
    standard = (cells.x[rows] - bases.mean[0]) @ bases.axes[0].T
    if kind is SharedCells:
        weights = torch.zeros(1, 600)
        weights[0, rows] = 1
        chosen = SharedCells.of(cells.x, cells.y, bases.mean, bases.axes)
    else:
        weights = torch.ones(1, 500)
        chosen = OwnCells(standard[None], cells.y[None, rows])
    problem = SoftmaxRegressions(chosen, 4, weights, bases.variances)
    penalty = torch.tensor([0.05])
    now = problem._begin(penalty)
    now.theta = torch.randn(now.theta.shape, generator=torch.Generator().manual_seed(0)) * 0.3
    now.logits = chosen.logits(now.theta)
    loss, _ = problem._loss(now, now.logits, now.number)
    value = float(loss) + 0.5 * 0.05 * float(now.theta[..., :-1].square().sum())
    gradient = (chosen.gradient(now.residual) + now.penalty * now.theta)[0]

    peer = LinearModelLoss(base_loss=HalfMultinomialLoss(n_classes=4), fit_intercept=True)
    expected, slope = peer.loss_gradient(
        now.theta[0].double().numpy(),
        standard.double().numpy(),
        cells.y[rows].double().numpy(),
        l2_reg_strength=0.05,
    )
    assert value == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(gradient.numpy(), slope, atol=2e-5)


def test_a_training_set_gets_the_same_head_alone_and_in_company(cells):
    train = [np.arange(i, 600, 2) for i in range(2)] + [np.arange(450)]
    probe = LinearProbe(C=(1e-3, 1e-1, 1.0), tolerance=1e-5)
    together = probe.solve(cells, train, [probe.C] * 3)
    for rows, heads in zip(train, together, strict=True):
        for head, alone in zip(heads, probe.solve(cells, [rows], [probe.C])[0], strict=True):
            torch.testing.assert_close(head.probabilities(cells.x), alone.probabilities(cells.x), atol=1e-3, rtol=0)


def test_fewer_cells_than_features_and_dead_features_are_solved():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 80, generator=generator)
    x[:, 7] = 3.0
    data = Data(x, torch.arange(30) % 3, 3)
    head = LinearProbe(tolerance=1e-6).solve(data, [np.arange(30)], [(0.1,)])[0][0]
    scaler = StandardScaler().fit(x.double().numpy())
    peer = LogisticRegression(C=0.1, tol=1e-8, max_iter=10_000).fit(scaler.transform(x.double()), data.y.numpy())
    np.testing.assert_allclose(head.probabilities(x), peer.predict_proba(scaler.transform(x.double())), atol=2e-4)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_small_training_sets_of_unequal_sizes_are_solved_with_their_own_cells(cells, class_weight):
    rng = np.random.default_rng(1)
    train = [rng.permutation(600)[:size] for size in (20, 47, 33)]
    probe = LinearProbe(tolerance=1e-6, class_weight=class_weight)
    gathered, _ = probe._gather(
        cells.x, cells.y, [torch.tensor(t) for t in train], Bases.of(cells.x, [torch.tensor(t) for t in train]), 4
    )
    assert isinstance(gathered, OwnCells)
    for rows, heads in zip(train, probe.solve(cells, train, [(0.01, 1.0)] * 3), strict=True):
        scaler = StandardScaler().fit(cells.x[rows].double().numpy())
        for c, head in zip((0.01, 1.0), heads, strict=True):
            peer = LogisticRegression(C=c, tol=1e-8, max_iter=10_000, class_weight=class_weight)
            peer.fit(scaler.transform(cells.x[rows].double().numpy()), cells.y[rows].numpy())
            expected = peer.predict_proba(scaler.transform(cells.x.double().numpy()))
            found = head.probabilities(cells.x).numpy()[:, np.unique(cells.y[rows])]
            np.testing.assert_allclose(found, expected, atol=1e-3)


def test_nearly_collinear_features_are_solved_in_tens_of_steps():
    """A steep spectrum, as where pre-training all but collapsed: float32 lowers the gradient no further."""
    rng = np.random.default_rng(0)
    y, spectrum = rng.integers(0, 4, 800), np.arange(1.0, 385.0) ** -2.2
    spectrum[:2] = 3, 2
    along = (rng.normal(size=(800, 384)) + 0.7 * rng.normal(size=(4, 384))[y]) * spectrum
    x = torch.tensor(along @ np.linalg.qr(rng.normal(size=(384, 384)))[0] + 1, dtype=torch.float32)
    rows = [torch.from_numpy(np.sort(rng.permutation(800)[:480])) for _ in range(10)]
    weights = torch.zeros(10, 800)
    for weight, chosen in zip(weights, rows, strict=True):
        weight[chosen] = 1
    bases = Bases.of(x, rows)
    shared = SharedCells.of(x, torch.tensor(y), bases.mean, bases.axes)
    regressions = SoftmaxRegressions(shared, 4, weights, bases.variances)
    for c in np.logspace(-4, 0.5, 10):
        solved = regressions.solve(torch.full((10,), 1 / (480 * c)), tolerance=1e-3, max_iterations=1000)
    assert regressions.iterations < 300
    assert regressions.gradient_norm.max() < 1e-2
    scaler = StandardScaler().fit(x[rows[0]].double().numpy())
    peer = LogisticRegression(C=c, tol=1e-6, max_iter=10_000)
    peer.fit(scaler.transform(x[rows[0]].double().numpy()), y[rows[0].numpy()])
    weight, bias = bases.unfold(*solved)
    found = torch.softmax(x @ weight[0].T + bias[0], dim=1).numpy()
    np.testing.assert_allclose(found, peer.predict_proba(scaler.transform(x.double().numpy())), atol=0.02)


def test_a_class_that_the_training_cells_lack_is_never_answered(cells):
    rows = np.flatnonzero(cells.y.numpy() != 2)
    head = LinearProbe().solve(cells, [rows], [(0.1,)])[0][0]
    p = head.probabilities(cells.x)
    assert p[:, 2].max() == 0
    torch.testing.assert_close(p.sum(dim=1), torch.ones(600))


def test_the_penalty_with_the_least_inner_loss_is_chosen_and_the_state_brings_the_head_back(cells):
    from leukoscope.probes.nested import inner_folds

    rows = np.arange(500)
    inner = inner_folds(rows, cells.y.numpy(), np.arange(600), 4)
    fitted = LinearProbe().fit(cells, [Job(TrainingSet(rows, inner))])[0]
    assert fitted.chosen["C"] == min(fitted.tried, key=lambda each: each["log_loss"])["C"]
    again = LinearHead.from_state(fitted.head.state())
    torch.testing.assert_close(again.probabilities(cells.x), fitted.head.probabilities(cells.x))
