import numpy as np
import pytest
import torch
from torch.nn import functional as F

from leukoscope.probes.head import Data, Job
from leukoscope.probes.nested import Inner, TrainingSet
from leukoscope.probes.sgd import StepwiseProbe


@pytest.fixture(scope="module")
def cells() -> Data:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 240)
    x = rng.normal(size=(3, 8))[y] + 0.7 * rng.normal(size=(240, 8))
    return Data(torch.tensor(x, dtype=torch.float32), torch.tensor(y), 3)


def test_rates_fall_at_the_papers_epochs_and_steps_are_those_of_momentum(cells: Data) -> None:
    """Batches of all cells: each epoch is one step, which can be written down."""
    rows = np.arange(200)
    probe = StepwiseProbe(batch=200, learning_rates=(0.1,))
    (fitted,) = probe.fit(cells, [Job(TrainingSet(rows, ()), seed=3)])
    (start,) = StepwiseProbe(batch=200, learning_rates=(1e-30,), epochs=1).fit(cells, [Job(TrainingSet(rows, ()), 3)])
    weight, bias = (value.clone() for value in start.head.state().values())
    x, y = cells.x[:200], F.one_hot(cells.y[:200], 3).float()
    moved = (torch.zeros_like(weight), torch.zeros_like(bias))
    for epoch in range(150):
        rate = 0.1 * 0.1 ** sum(epoch >= at for at in (40, 70, 120))
        slope = (torch.softmax(x @ weight.T + bias, dim=1) - y) / 200
        moved = (0.9 * moved[0] + slope.T @ x, 0.9 * moved[1] + slope.sum(dim=0))
        weight, bias = weight - rate * moved[0], bias - rate * moved[1]
    torch.testing.assert_close(fitted.head.state(), {"weight": weight, "bias": bias}, atol=1e-4, rtol=1e-3)


def test_every_epoch_takes_each_cell_once_in_batches_of_32(cells: Data) -> None:
    """With whole batches, 192 cells are six steps an epoch; a rate that ends at the first milestone leaves the rest."""
    rows = np.arange(192)
    short = StepwiseProbe(epochs=2, milestones=(1,), gamma=1e-30)
    one = StepwiseProbe(epochs=1)
    ends = [probe.fit(cells, [Job(TrainingSet(rows, ()))])[0].head.state() for probe in (short, one)]
    torch.testing.assert_close(*ends)


def test_the_rate_is_chosen_inside_the_training_cells(cells: Data) -> None:
    rows = np.arange(200)
    inner = (Inner(rows[:160], rows[160:]),)
    (fitted,) = StepwiseProbe(learning_rates=(1e-9, 0.01), epochs=20).fit(cells, [Job(TrainingSet(rows, inner))])
    assert fitted.chosen == {"learning_rate": 0.01}
    accuracy = {each["learning_rate"]: each["accuracy"] for each in fitted.tried}
    assert accuracy[0.01] > accuracy[1e-9] + 0.2
    assert (fitted.head.probabilities(cells.x[200:]).argmax(1) == cells.y[200:]).float().mean() > 0.8
