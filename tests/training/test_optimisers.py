import pytest
import torch
from torch import nn

from leukoscope.training.optimisers import create_optimiser
from leukoscope.training.settings import TrainSettings


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adamw", "lars"])
def test_every_optimiser_lowers_a_loss(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    x, y = torch.randn(64, 4), torch.randn(64, 1)
    settings = TrainSettings(optimiser=name, lr=1.0 if name == "lars" else 0.01)
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
