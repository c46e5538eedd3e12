from itertools import pairwise

import pytest
import torch
from torch import nn

from leukoscope.encoders.backbone import create_backbone
from leukoscope.training.optimisers import create_optimiser
from leukoscope.training.schedules import schedule
from leukoscope.training.settings import TrainSettings


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adamw", "lars", "larc", "larc-adamw"])
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


@pytest.mark.parametrize("clip", [False, True])
def test_larc_around_adamw_is_that_of_apex(clip: bool) -> None:
    """The rule of NVIDIA's apex, ``parallel/LARC.py``, laid on gradients that AdamW without decay then takes."""
    torch.manual_seed(0)
    weights = nn.ParameterList([torch.randn(5, 3), torch.zeros(4, 2)])  # the second has no norm at first
    theirs = nn.ParameterList([each.detach().clone() for each in weights])
    settings = TrainSettings(optimiser="larc-adamw", lr=0.05, weight_decay=0.1, larc_clip=clip)
    ours, plain = create_optimiser(weights, settings), torch.optim.AdamW(theirs, lr=0.05, weight_decay=0.0)
    for step in range(4):
        for own, other in zip(weights, theirs, strict=True):
            own.grad = torch.randn(own.shape) * 10.0 ** -(2 * step)
            other.grad = own.grad.clone()
            size, slope = other.detach().norm(), other.grad.norm()
            if size != 0 and slope != 0:
                local = 0.001 * size / (slope + size * 0.1 + 1e-8)
                other.grad += 0.1 * other.detach()
                other.grad *= min(local / 0.05, 1) if clip else local
        ours.step()
        plain.step()
        for own, other in zip(weights, theirs, strict=True):
            assert torch.allclose(own, other, atol=1e-6)
    assert {group["weight_decay"] for group in ours.param_groups} == {0.1}


def test_rates_fall_from_layer_to_layer_of_the_encoder_and_spare_the_head() -> None:
    backbone = create_backbone("test_vit", channels=1, seed=0, size=32)
    method = nn.ModuleDict({"encoder": backbone, "head": nn.Linear(64, 3)})
    optimiser = create_optimiser(method, TrainSettings(optimiser="adamw", lr=0.1, layer_decay=0.5))
    schedule(optimiser, TrainSettings(lr=0.1, schedule="constant"), 0, 10)
    rate = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    blocks = [rate[id(block.attn.qkv.weight)] for block in backbone.blocks]
    # timm counts the last norm to the last block.
    assert rate[id(method["head"].weight)] == rate[id(backbone.norm.weight)] == blocks[-1] == pytest.approx(0.1)
    assert [low / high for low, high in pairwise(blocks)] == pytest.approx([0.5] * (len(blocks) - 1))
    assert rate[id(backbone.patch_embed.proj.weight)] == pytest.approx(blocks[0] / 2)
    assert len(rate) == len(list(method.parameters()))


@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_a_patch_embedding_learns_at_a_rate_of_its_own(layer_decay: float | None) -> None:
    backbone = create_backbone("test_vit", channels=1, seed=0, size=32)
    scales = {}
    for patch_rate in (1.0, 0.2):
        settings = TrainSettings(optimiser="adamw", layer_decay=layer_decay, patch_rate=patch_rate)
        for group in create_optimiser(backbone, settings).param_groups:
            scales.update({(patch_rate, id(weight)): group["scale"] for weight in group["params"]})
    for name, weight in backbone.named_parameters():
        ratio = scales[0.2, id(weight)] / scales[1.0, id(weight)]
        assert ratio == pytest.approx(0.2 if name.startswith("patch_embed") else 1.0)
