import pytest
import torch
from torch import nn

from leukoscope.training.optimisers import create_optimiser
from leukoscope.training.settings import TrainSettings


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adamw", "lars", "larc"])
def test_every_optimiser_lowers_a_loss(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    x, y = torch.randn(64, 4), torch.randn(64, 1)
    settings = TrainSettings(optimiser=name, lr=1.0 if name in ("lars", "larc") else 0.01)
    optimiser = create_optimiser(network, settings)
    losses = []
    for _ in range(30):
        loss = (network(x) - y).square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]


def test_frozen_weights_are_left_out_and_norms_undecayed() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    network[2].requires_grad_(False)
    decayed, plain = create_optimiser(network, TrainSettings(optimiser="adamw")).param_groups
    assert [p.shape for p in decayed["params"]] == [(8, 4)]
    assert len(plain["params"]) == 3
    assert plain["weight_decay"] == 0.0


@pytest.mark.parametrize("clip", [False, True])
def test_larc_is_that_of_apex(clip: bool) -> None:
    """The rule of NVIDIA's apex, ``parallel/LARC.py``, over a few steps of SGD with momentum."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(5, 3))
    theirs, buffer = weight.detach().clone(), torch.zeros(5, 3)
    optimiser = create_optimiser(nn.ParameterList([weight]), TrainSettings(optimiser="larc", lr=0.05, larc_clip=clip))
    for step in range(4):
        gradient = torch.randn(5, 3) * 10.0 ** -(step + 1)
        local = 0.001 * theirs.norm() / (gradient.norm() + 1e-4 * theirs.norm() + 1e-8)
        adapted = (gradient + 1e-4 * theirs) * (min(local / 0.05, 1) if clip else local)
        buffer = 0.9 * buffer + adapted
        theirs = theirs - 0.05 * buffer
        weight.grad = gradient
        optimiser.step()
        assert torch.allclose(weight, theirs, atol=1e-6)
