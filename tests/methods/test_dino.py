"""DINO against the loss and the main loop of its authors (facebookresearch/dino), written out."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukoscope.common.errors import InputError
from leukoscope.methods.dino import DINO, DINOSettings
from leukoscope.training.method import Progress


class Flat(nn.Module):
    num_features = 16

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.mix = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(F.adaptive_avg_pool2d(x, 4).flatten(1))


def at(step: int, per_epoch: int = 2) -> Progress:
    return Progress(seed=0, step=step, steps=8, epoch=step // per_epoch, per_epoch=per_epoch)


def dino(**settings: object) -> DINO:
    chosen = {"outputs": 9, "hidden": 8, "bottleneck": 5, "teacher_warmup_epochs": 3, **settings}
    return DINO(Flat(), DINOSettings.parse(chosen, "test"), cells=100, seed=0)


def views(step: int, sides: tuple[int, ...] = (8, 8, 4, 4, 4)) -> list[Tensor]:
    drawn = torch.Generator().manual_seed(step)
    return [torch.randn(6, 1, side, side, generator=drawn) for side in sides]


def official(said: list[Tensor], told: list[Tensor], center: Tensor, temperature: float) -> Tensor:
    """The authors' DINOLoss: every pair of a teacher's view and another view of the student's."""
    terms = []
    for i, teacher in enumerate(told):
        q = F.softmax((teacher - center) / temperature, dim=-1).detach()
        terms += [(-q * F.log_softmax(s / 0.1, dim=-1)).sum(-1).mean() for j, s in enumerate(said) if j != i]
    return torch.stack(terms).mean()


def test_steps_equal_the_authors_loop() -> None:
    """Loss, gradients, centre, teacher and its temperature over four epochs of two steps."""
    ours = dino()
    sgd = torch.optim.SGD([p for p in ours.parameters() if p.requires_grad], lr=0.2)
    center = torch.zeros(1, 9)
    temperatures = np.concatenate([np.linspace(0.04, 0.07, 7), [0.07]])
    for step in range(8):
        x = views(step)
        with torch.no_grad():
            told = [ours.teacher_head(ours.encoder(view)) for view in x[:2]]
        said = [ours.student_head(ours.student(view)) for view in x]
        expected = official(said, told, center, temperatures[step])
        wanted = torch.autograd.grad(expected, list(ours.student.parameters()))
        sgd.zero_grad()
        loss, _ = ours.loss(x, torch.arange(6), at(step))
        loss.backward()
        assert torch.allclose(loss, expected, rtol=1e-5)
        for parameter, gradient in zip(ours.student.parameters(), wanted, strict=True):
            assert torch.allclose(parameter.grad, gradient, atol=1e-6)
        center = 0.9 * center + 0.1 * torch.cat(told).mean(0, keepdim=True)
        assert torch.allclose(ours.distil.center[0], center, atol=1e-6)

        before = ours.encoder.mix.weight.clone()
        ours.before_step(at(step))
        assert all((p.grad is None) == (step < 2) for p in ours.student_head.last_layer.parameters() if p.requires_grad)
        sgd.step()
        ours.after_step(at(step))
        # lightly's cosine ends on the last step, the authors' one step later.
        momentum = 1 - 0.004 * (math.cos(math.pi * step / 7) + 1) / 2
        expected_teacher = momentum * before + (1 - momentum) * ours.student.mix.weight
        assert torch.allclose(ours.encoder.mix.weight, expected_teacher, atol=1e-6)


def test_teacher_and_student_start_alike_and_the_teacher_takes_no_gradient() -> None:
    ours = dino()
    for student, teacher in ((ours.student, ours.encoder), (ours.student_head, ours.teacher_head)):
        for a, b in zip(student.state_dict().values(), teacher.state_dict().values(), strict=True):
            assert torch.equal(a, b)
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert ours.online() is ours.encoder


def test_the_crops_of_the_leukaemia_paper() -> None:
    """Two global and eight local crops, the teacher's temperature from 0.04 to 0.07 (aml-ssl-mil, section 4.2)."""
    ours = dino(teacher_warmup_epochs=2)
    loss, _ = ours.loss(views(0, (8, 8, *[4] * 8)), torch.arange(6), at(0))
    assert loss.isfinite()
    assert [ours.settings.temperature_at(at(step)) for step in (0, 2, 4, 7)] == pytest.approx([0.04, 0.055, 0.07, 0.07])


def test_a_single_view_is_refused() -> None:
    with pytest.raises(InputError, match="let the policy make two views"):
        dino().loss(views(0, (8,)), torch.arange(6), at(0))
