"""Supervised contrast against equation 13 of hairy-cells-supcon, and its training in steps."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import CheckFailed
from leukoscope.methods.pretrain import pretrain
from leukoscope.methods.pretrain_settings import PretrainSettings
from leukoscope.methods.supcon import SupCon, SupConSettings
from leukoscope.training.method import Progress


class Normed(nn.Module):
    """Pixels as features, through a batch norm that remembers what it saw."""

    num_features = 12

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(12)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(1))


def at(step: int) -> Progress:
    return Progress(seed=0, step=step, steps=20, epoch=step // 2, per_epoch=2)


LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1, 2])


def supcon(**settings: object) -> SupCon:
    chosen = SupConSettings.parse({"dim": 5, "dropout": 0.0, **settings}, "test")
    return SupCon(Normed(), chosen, cells=10, seed=0, labels=LABELS)


def equation_13(z: Tensor, classes: list[int], temperature: float) -> Tensor:
    total = torch.zeros(())
    for i in range(len(z)):
        a = [k for k in range(len(z)) if k != i]
        below = sum(torch.exp(z[i] @ z[k] / temperature) for k in a)
        p = [k for k in a if classes[k] == classes[i]]
        total = total - sum(torch.log(torch.exp(z[i] @ z[k] / temperature) / below) for k in p) / len(p)
    return total


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_is_equation_13_in_values_and_gradients(reduction: str) -> None:
    drawn = torch.Generator().manual_seed(0)
    z, cells = F.normalize(torch.randn(2, 6, 5, generator=drawn), dim=-1), torch.tensor([3, 1, 0, 9, 6, 4])
    classes = LABELS[cells].tolist() * 2
    found = []
    for loss_of in (
        lambda x: supcon(temperature=0.3, reduction=reduction).compare(x, cells, at(0))[0],
        lambda x: equation_13(torch.cat([x[0], x[1]]), classes, 0.3) / (12 if reduction == "mean" else 1),
    ):
        x = z.clone().requires_grad_()
        loss = loss_of(x)
        loss.backward()
        found.append((loss, x.grad))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5)


def test_features_are_normalised_before_the_head_and_after_it() -> None:
    ours = supcon(head_epochs=0)
    views = [torch.randn(6, 1, 3, 4) for _ in range(2)]
    z = ours.project(views, at(0))
    features = F.normalize(ours.encoder(torch.cat(views)), dim=1)
    assert torch.allclose(torch.cat([z[0], z[1]]), F.normalize(ours.head[1](features), dim=1), atol=1e-5)


def test_the_head_learns_alone_first_at_its_own_rate() -> None:
    ours = supcon(head_epochs=1.5, head_rate=100)
    before = {key: value.clone() for key, value in ours.encoder.state_dict().items()}
    for step in range(4):
        ours.zero_grad()
        loss, _ = ours.loss([torch.randn(6, 1, 3, 4) for _ in range(2)], torch.arange(6), at(step))
        loss.backward()
        alone = step < 3
        assert ours.rate(at(step)) == (100 if alone else 1)
        assert all(
            (parameter.grad is None or not parameter.grad.any()) == alone for parameter in ours.encoder.parameters()
        )
        assert ours.head[1].weight.grad.any()
        assert ours.encoder.training
        # Frozen batch norms neither take a batch's statistics nor remember it.
        after = ours.encoder.state_dict()
        assert all(torch.equal(value, after[key]) for key, value in before.items()) == alone


def test_the_thesis_is_reachable() -> None:
    """Table 4.8: 7 epochs of the head at 1e-3, then 10 of all at 1e-5; 16 or 128 units."""
    settings = SupConSettings()
    assert (settings.head_epochs, settings.dropout, settings.temperature, settings.dim) == (7, 0.2, 0.1, 128)
    assert 1e-5 * settings.head_rate == pytest.approx(1e-3)
    assert supcon(dim=16).head[1].out_features == 16


def test_a_collapse_of_the_projections_stops_the_run(three_kinds: CellSet, tmp_path: Path) -> None:
    """What the thesis met without the first step: every cell at one point of the projection space (section 4.3.3)."""
    settings = {
        "method": "supcon",
        "method_settings": {"head_epochs": 0, "dim": 16},
        "backbone": "test_resnet",
        "size": 24,
        "policy": {"views": [{"count": 2}]},
        # A decay that takes all weights to nothing, against a gradient that is held down.
        "train": {"epochs": 5, "batch": 32, "lr": 1.0, "weight_decay": 0.9, "momentum": 0, "schedule": "constant",
                  "clip": 1e-9, "collapse_steps": 1, "device": "cpu", "monitor_cells": 0},
    }  # fmt: skip
    with pytest.raises(CheckFailed, match=r"collapsed in epoch [2-5]: projections are one point"):
        pretrain([three_kinds], tmp_path / "run", settings=PretrainSettings.parse(settings, "test"))
