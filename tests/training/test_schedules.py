import math

import pytest
import torch
from torch import nn

from leukoscope.common.errors import InputError
from leukoscope.training.optimisers import create_optimiser
from leukoscope.training.schedules import learning_rate, schedule, warmup_steps, weight_decay
from leukoscope.training.settings import TrainSettings


def test_cosine_after_a_linear_warm_up() -> None:
    settings = TrainSettings(epochs=10, warmup_epochs=2, lr=1.0, lr_end=0.1)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert warmup_steps(settings, 100) == 20
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    for step in range(20, 100):
        # The half cosine from the first step after the warm-up to the last.
        assert rates[step] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * (step - 20) / 79)) / 2)


def test_a_constant_rate_warms_up_too() -> None:
    settings = TrainSettings(epochs=4, warmup_epochs=0.5, lr=0.2, schedule="constant")
    assert [learning_rate(settings, step, 16) for step in (0, 1, 2, 15)] == pytest.approx([0.1, 0.2, 0.2, 0.2])


def test_the_weight_decay_follows_a_cosine_and_spares_what_is_undecayed() -> None:
    settings = TrainSettings(optimiser="adamw", weight_decay=0.04, weight_decay_end=0.4)
    assert [weight_decay(settings, step, 11) for step in (0, 5, 10)] == pytest.approx([0.04, 0.22, 0.4])
    optimiser = create_optimiser(nn.Linear(2, 2), settings)
    schedule(optimiser, settings, 5, 11)
    assert [group["weight_decay"] for group in optimiser.param_groups] == pytest.approx([0.22, 0.0])
    constant = TrainSettings(optimiser="adamw", weight_decay=0.04)
    assert weight_decay(constant, 7, 11) == 0.04


def test_steps_are_those_of_torch() -> None:
    # hcs-quality-control, section 3.3: 50 epochs at 0.001, a tenth from epochs 25 and 40 on.
    settings = TrainSettings(epochs=50, lr=0.001, schedule="step", milestones=(25, 40))
    optimiser = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.001)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimiser, [25, 40], gamma=0.1)
    for epoch in range(50):
        for step in range(epoch * 7, epoch * 7 + 7):
            assert learning_rate(settings, step, 350) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        theirs.step()


def test_steps_come_after_a_warm_up_and_within_epochs() -> None:
    settings = TrainSettings(epochs=4, lr=1.0, warmup_epochs=1, schedule="step", milestones=(2.5,), gamma=0.5)
    rates = [learning_rate(settings, step, 16) for step in range(16)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, *[1.0] * 6, *[0.5] * 6])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "step"}, "milestones and schedule step go together: give both or neither"),
        ({"milestones": [3]}, "milestones and schedule step go together: give both or neither"),
        ({"schedule": "step", "milestones": [4, 2]}, "milestones 4, 2 must rise, above 0 and below epochs 10"),
        ({"schedule": "step", "milestones": [5, 10]}, "milestones 5, 10 must rise, above 0 and below epochs 10"),
    ],
)
def test_milestones_that_would_do_nothing_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainSettings.parse({"epochs": 10, **given}, where="train")
