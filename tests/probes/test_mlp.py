import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leukoscope.probes.basis import moments
from leukoscope.probes.head import Data, Job
from leukoscope.probes.mlp import MLPHead, MLPProbe
from leukoscope.probes.mlp_training import Problem, StackedTraining, cell_order
from leukoscope.probes.nested import TrainingSet, inner_folds
from leukoscope.probes.stacked import initial

HIDDEN = (24, 16)


@pytest.fixture(scope="module")
def cells() -> Data:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 260)
    x = 3 + 2 * (rng.normal(size=(3, 10))[y] + rng.normal(size=(260, 10)))
    return Data(torch.tensor(x, dtype=torch.float32), torch.tensor(y), 3)


def stacked(cells: Data, **changes) -> StackedTraining:
    values = {"hidden": HIDDEN, "epochs": 4, "batch": 32, "weight_decay": 0.05, "label_smoothing": 0.1}
    return StackedTraining(cells, **{**values, **changes})


def plain_training(cells: Data, problem: Problem) -> nn.Sequential:
    """The same training written out with torch's own layers, optimiser and schedule."""
    layers = [nn.Linear(10, 24), nn.ReLU(), nn.LayerNorm(24), nn.Linear(24, 16), nn.ReLU(), nn.LayerNorm(16)]
    model = nn.Sequential(*layers, nn.Linear(16, 3))
    with torch.no_grad():
        for own, given in zip(model.parameters(), initial((10, *HIDDEN, 3), problem.seed), strict=True):
            own.copy_(given)
    mean, std = moments(cells.x[problem.rows])
    steps = math.ceil(4 * len(problem.rows) / 32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=problem.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for index in cell_order(problem, 32, steps):
        loss = F.cross_entropy(model((cells.x[index] - mean) / std), cells.y[index], label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model


def test_stacked_training_is_plain_training_of_each_model(cells):
    problems = [Problem(np.arange(200), 0, 1e-3), Problem(np.arange(40, 260), 1, 3e-3), Problem(np.arange(60), 0, 1e-3)]
    for problem, (_, _, parameters) in zip(problems, stacked(cells).run(problems), strict=True):
        for own, given in zip(parameters, plain_training(cells, problem).parameters(), strict=True):
            torch.testing.assert_close(own, given.detach(), atol=2e-5, rtol=1e-4)


def test_a_model_becomes_the_same_alone_and_in_company(cells):
    problems = [Problem(np.arange(n), seed, rate) for n, seed, rate in ((200, 0, 1e-3), (130, 1, 3e-3), (260, 2, 1e-4))]
    for problem, together in zip(problems, stacked(cells).run(problems), strict=True):
        alone = stacked(cells).run([problem])[0]
        for a, b in zip(together[2], alone[2], strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_the_order_visits_every_cell_once_an_epoch():
    order = cell_order(Problem(np.arange(100, 164), 3, 1e-3), 32, 6).flatten()
    assert all(sorted(part.tolist()) == list(range(100, 164)) for part in order.split(64))


def test_seeds_differ_and_repeat(cells):
    rows = np.arange(150)
    first, again, other = stacked(cells, epochs=1).run([Problem(rows, seed, 1e-3) for seed in (0, 0, 1)])
    torch.testing.assert_close(first[2][0], again[2][0])
    assert not torch.allclose(first[2][0], other[2][0])


def test_the_rate_is_chosen_inside_and_the_state_brings_the_head_back(cells):
    rows = np.arange(200)
    inner = inner_folds(rows, cells.y.numpy(), np.arange(260), 4)
    probe = MLPProbe(hidden=HIDDEN, epochs=20, batch=32, learning_rates=(1e-6, 3e-3))
    fitted = probe.fit(cells, [Job(TrainingSet(rows, inner), seed=0)])[0]
    assert fitted.chosen == {"learning_rate": 3e-3}
    again = MLPHead.from_state(fitted.head.state())
    p = again.probabilities(cells.x[200:])
    torch.testing.assert_close(p, fitted.head.probabilities(cells.x[200:]))
    assert (p.argmax(dim=1) == cells.y[200:]).float().mean() > 0.7
