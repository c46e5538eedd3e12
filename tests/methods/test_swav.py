"""SwAV against the main loop of its authors (facebookresearch/swav), written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukoscope.common.errors import InputError
from leukoscope.methods.swav import SwAV, SwAVSettings
from leukoscope.training.method import Progress


class Flat(nn.Module):
    num_features = 16

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 4).flatten(1)


def at(step: int, per_epoch: int = 2) -> Progress:
    return Progress(seed=0, step=step, steps=10, epoch=step // per_epoch, per_epoch=per_epoch)


def swav(**settings: object) -> SwAV:
    chosen = {"prototypes": 7, "hidden": 8, "dim": 5, "frozen_epochs": 0, **settings}
    return SwAV(Flat(), SwAVSettings.parse(chosen, "test"), cells=100, seed=0)


def views(step: int, sides: tuple[int, ...]) -> list[Tensor]:
    drawn = torch.Generator().manual_seed(step)
    return [torch.randn(6, 1, side, side, generator=drawn) for side in sides]


@torch.no_grad()
def sinkhorn(scores: Tensor) -> Tensor:
    q = torch.exp(scores / 0.05).t()
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(dim=1, keepdim=True)
        q /= q.shape[0]
        q /= q.sum(dim=0, keepdim=True)
        q /= q.shape[1]
    return (q * q.shape[1]).t()


def official(z: list[Tensor], prototypes: Tensor, queues: list[Tensor] | None) -> Tensor:
    """The authors' loss of projections ``(B, dim)`` of unit length, the first two of global crops."""
    output = [view @ prototypes.t() for view in z]
    loss = torch.zeros(())
    for crop in (0, 1):
        out = output[crop].detach()
        if queues is not None:
            out = torch.cat([queues[crop] @ prototypes.detach().t(), out])
        q = sinkhorn(out)[-len(z[0]) :]
        terms = [-(q * F.log_softmax(output[v] / 0.1, dim=1)).sum(1).mean() for v in range(len(z)) if v != crop]
        loss = loss + sum(terms) / (len(z) - 1)
    return loss / 2


def test_steps_equal_the_authors_loop() -> None:
    """Losses and prototypes over steps with two global and two local crops and a queue that fills."""
    ours = swav(queue=12, queue_from_epoch=1)
    sgd = torch.optim.SGD(ours.parameters(), lr=0.3)
    queues: list[list[Tensor]] = [[], []]
    for step in range(6):
        x = views(step, (8, 8, 4, 4))
        large, small = ours.head(ours.encoder(torch.cat(x[:2]))), ours.head(ours.encoder(torch.cat(x[2:])))
        z = [F.normalize(part, dim=1) for part in (*large.chunk(2), *small.chunk(2))]
        prototypes = ours.prototypes.weight.detach().clone().requires_grad_()
        assert torch.allclose(prototypes.norm(dim=1), torch.ones(7))
        filled = [torch.cat(queue[-2:]) for queue in queues] if len(queues[0]) >= 2 and step >= 2 else None
        expected = official(z, prototypes, filled)
        expected.backward()
        sgd.zero_grad()
        loss, _ = ours.loss(x, torch.arange(6), at(step))
        loss.backward()
        assert torch.allclose(loss, expected, rtol=1e-5)
        assert torch.allclose(ours.prototypes.weight.grad, prototypes.grad, atol=1e-6)
        sgd.step()
        ours.after_step(at(step))
        for queue, view in zip(queues, z[:2], strict=True):
            queue.append(view.detach())


def test_prototypes_are_held_for_the_first_epochs() -> None:
    ours = swav(frozen_epochs=1.5)
    held = []
    for step in range(4):
        ours.zero_grad()
        ours.loss(views(step, (8, 8)), torch.arange(6), at(step))[0].backward()
        ours.before_step(at(step))
        held.append(ours.prototypes.weight.grad is None)
    assert held == [True, True, True, False]


def test_the_head_and_prototypes_of_the_papers() -> None:
    """Three layers and 300 prototypes (aml-ssl-mil), 500 prototypes and a queue of 2,560 (hcs-quality-control)."""
    ours = swav(layers=3, prototypes=300, hidden=2048, dim=128)
    assert [m.out_features for m in ours.head.modules() if isinstance(m, nn.Linear)] == [2048, 2048, 128]
    assert ours.prototypes.weight.shape == (300, 128)
    assert ours.prototypes.bias is None
    assert ours.chance_loss() == pytest.approx(math.log(300))
    assert [len(queue) for queue in swav(queue=2560, dim=128).queues] == [2560, 2560]


def test_a_queue_travels_with_the_checkpoint() -> None:
    assert sum(key.endswith("keys") for key in swav(queue=4).state_dict()) == 2


def test_one_global_view_is_refused() -> None:
    with pytest.raises(InputError, match="let the policy make two of the full size"):
        swav().loss(views(0, (8, 4, 4)), torch.arange(6), at(0))
