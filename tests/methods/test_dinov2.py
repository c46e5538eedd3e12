"""DINOv2 against the losses of its authors (facebookresearch/dinov2), written out, on a tiny transformer."""

import math
import random
from collections.abc import Mapping
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import create_backbone
from leukoscope.methods.dinov2 import DINOv2, DINOv2Settings
from leukoscope.training.method import Progress

SIZE = 64  # 4 x 4 patches


def at(step: int) -> Progress:
    return Progress(seed=0, step=step, steps=8, epoch=step // 2, per_epoch=2)


def dinov2(**settings: object) -> DINOv2:
    chosen = {"outputs": 9, "hidden": 8, "bottleneck": 5, "teacher_warmup_epochs": 3, **settings}
    backbone = create_backbone("test_vit", channels=1, seed=0, size=SIZE)
    return DINOv2(backbone, DINOv2Settings.parse(chosen, "test"), cells=100, seed=0)


def views(step: int, sides: tuple[int, ...] = (SIZE, SIZE)) -> list[Tensor]:
    drawn = torch.Generator().manual_seed(step)
    return [torch.randn(4, 1, side, side, generator=drawn) for side in sides]


def entropy(told: Tensor, said: Tensor, center: Tensor, temperature: float) -> Tensor:
    return -(F.softmax((told - center) / temperature, dim=-1) * F.log_softmax(said / 0.1, dim=-1)).sum(-1)


def koleo(x: Tensor) -> Tensor:
    """Minus the mean log distance to the nearest other cell, on the unit sphere (Sablayrolles et al. 2019)."""
    x = F.normalize(x, dim=1)
    distances = torch.stack(
        [torch.stack([(a - b).norm() for j, b in enumerate(x) if j != i]).min() for i, a in enumerate(x)]
    )
    return -distances.log().mean()


class Seen(NamedTuple):
    """What teacher and student make of eight views, four of each of two kinds, and which patches the student misses."""

    mask: Tensor
    tokens: Tensor
    taught: Tensor
    learned: Tensor


def stepped(ours: DINOv2, step: int) -> tuple[Tensor, Mapping[str, Tensor], Seen]:
    """The loss of a step, its numbers, and what it was made of."""
    x = views(step)
    random.seed(step)
    mask = ours.mask(8, SIZE)
    random.seed(step)
    loss, numbers = ours.loss(x, torch.arange(4), at(step))
    tokens = torch.cat([torch.zeros(8, 1, dtype=torch.bool), mask.flatten(1)], dim=1)
    with torch.no_grad():
        taught = ours.teacher.encode(torch.cat(x))
        learned = ours.student.encode(torch.cat(x), mask=tokens)
    return loss, numbers, Seen(mask, tokens, taught, learned)


@pytest.mark.parametrize("separate", [False, True])
def test_the_three_terms_are_the_authors(separate: bool) -> None:
    ours = dinov2(separate_heads=separate)
    class_center, patch_center = torch.zeros(1, 9), torch.zeros(1, 9)
    for step in range(3):
        loss, numbers, seen = stepped(ours, step)
        mask, tokens, taught, learned = seen.mask, seen.tokens, seen.taught, seen.learned
        temperature = 0.04 + 0.03 * step / 6
        with torch.no_grad():
            told, said = ours.teacher_heads[0](taught[:, 0]), ours.student_heads[0](learned[:, 0])
            # Each global view is told by the other.
            pairs = [(told[:4], said[4:]), (told[4:], said[:4])]
            class_loss = torch.stack([entropy(t, s, class_center, temperature).mean() for t, s in pairs]).mean()
            each = []
            for image in range(8):
                where = mask[image].flatten()
                if where.any():
                    patches = (
                        ours.teacher_heads[-1](taught[image, 1:][where]),
                        ours.student_heads[-1](learned[image, 1:][where]),
                    )
                    each.append(entropy(*patches, patch_center, temperature).mean())
            patch_loss = torch.stack(each).sum() / 8
            spread = koleo(learned[:4, 0]) + koleo(learned[4:, 0])
            class_center = 0.9 * class_center + 0.1 * told.mean(0, keepdim=True)
            if mask.any():
                patch_center = 0.9 * patch_center + 0.1 * ours.teacher_heads[-1](taught[tokens]).mean(0, keepdim=True)
        assert numbers["class_loss"].item() == pytest.approx(class_loss.item(), rel=1e-4)
        assert numbers["patch_loss"].item() == pytest.approx(patch_loss.item(), rel=1e-4)
        assert numbers["koleo"].item() == pytest.approx(spread.item(), rel=1e-3)
        assert loss.item() == pytest.approx((class_loss + patch_loss + 0.1 * spread).item(), rel=1e-3)


def sinkhorn(told: Tensor, temperature: float) -> Tensor:
    """As the authors have it (``sinkhorn_knopp_teacher``): three times outputs, then cells, share alike."""
    q = torch.exp(told / temperature).T
    q = q / q.sum()
    for _ in range(3):
        q = q / q.sum(dim=1, keepdim=True) / len(q)
        q = q / q.sum(dim=0, keepdim=True) / q.shape[1]
    return (q * q.shape[1]).T


def test_sinkhorn_takes_the_place_of_both_centres() -> None:
    ours = dinov2(centring="sinkhorn")
    for step in range(2):
        loss, numbers, seen = stepped(ours, step)
        mask, tokens, taught, learned = seen.mask, seen.tokens, seen.taught, seen.learned
        temperature = 0.04 + 0.03 * step / 6
        with torch.no_grad():
            told, said = ours.teacher_heads[0](taught[:, 0]), ours.student_heads[0](learned[:, 0])
            codes = sinkhorn(told, temperature)  # of both views together
            class_loss = -(codes * F.log_softmax(torch.cat([said[4:], said[:4]]) / 0.1, dim=-1)).sum(-1).mean()
            patches = sinkhorn(ours.teacher_heads[0](taught[tokens]), temperature)
            each = -(patches * F.log_softmax(ours.student_heads[0](learned[tokens]) / 0.1, dim=-1)).sum(-1)
            weight = (1 / mask.sum(dim=(1, 2)).clamp(min=1)).repeat_interleave(mask.sum(dim=(1, 2)))
        assert numbers["class_loss"].item() == pytest.approx(class_loss.item(), rel=1e-4)
        assert numbers["patch_loss"].item() == pytest.approx(((each * weight).sum() / 8).item(), rel=1e-4)
        assert loss.isfinite()
        assert not ours.class_loss.center.any()
        assert not ours.patch_loss.center.value.any()


def test_masked_patches_are_hidden_from_the_student_and_from_it_alone() -> None:
    ours = dinov2()
    x = torch.cat(views(0))
    tokens = torch.zeros(8, 17, dtype=torch.bool)
    tokens[:, 5] = True
    changed = x.clone()
    changed[:, :, 16:32, :16] += 3  # the pixels of that patch: second row, first column
    with torch.no_grad():
        assert torch.allclose(ours.student.encode(x, mask=tokens), ours.student.encode(changed, mask=tokens), atol=1e-5)
        assert not torch.allclose(ours.teacher.encode(x), ours.teacher.encode(changed), atol=1e-3)


def test_views_without_a_masked_patch_leave_the_centre_alone() -> None:
    ours = dinov2(masked_images=0.0)
    loss, numbers = ours.loss(views(0), torch.arange(4), at(0))
    assert numbers["patch_loss"] == 0
    assert loss.isfinite()
    assert not ours.patch_loss.center.value.any()


def test_half_of_the_views_are_masked_a_tenth_to_a_half_of_each() -> None:
    random.seed(0)
    ours = dinov2()
    mask = ours.mask(200, 160).flatten(1).float()  # 10 x 10 patches
    shares = mask.mean(dim=1)
    assert (shares > 0).sum() == 100
    assert shares.max() <= 0.5
    assert shares[shares > 0].mean().item() == pytest.approx(0.3, abs=0.03)


def test_the_bundle_holds_the_teacher_as_timm_knows_it() -> None:
    ours = dinov2(momentum=0.5)
    before = {key: value.clone() for key, value in ours.encoder_state().items()}
    with torch.no_grad():
        for parameter in ours.student.parameters():
            parameter.add_(1.0)
    ours.after_step(at(0))
    after = ours.encoder_state()
    fresh = create_backbone("test_vit", channels=1, seed=1, size=SIZE)
    fresh.load_state_dict(after)
    assert torch.allclose(after["cls_token"], before["cls_token"] + 0.5, atol=1e-5)
    assert torch.allclose(fresh(views(0)[0]), ours.online().eval()(views(0)[0]), atol=1e-5)


def test_heads_are_held_for_the_first_epoch() -> None:
    ours = dinov2(separate_heads=True)
    for step in (0, 2):
        ours.zero_grad()
        ours.loss(views(step), torch.arange(4), at(step))[0].backward()
        ours.before_step(at(step))
        held = [p.grad is None for head in ours.student_heads for p in head.last_layer.parameters()]
        assert held == [step == 0] * len(held)


def test_local_views_see_the_class_loss_alone() -> None:
    ours = dinov2(patch_weight=0.0, koleo_weight=0.0)
    loss, numbers = ours.loss(views(0, (SIZE, SIZE, 32)), torch.arange(4), at(0))
    assert loss.item() == pytest.approx(numbers["class_loss"].item())
    assert math.isfinite(loss.item())


def test_a_convolutional_network_is_refused() -> None:
    backbone = create_backbone("test_resnet", channels=1, seed=0, size=32)
    with pytest.raises(InputError, match="dinov2: needs a vision transformer"):
        DINOv2(backbone, DINOv2Settings(outputs=9), cells=10, seed=0)


def test_one_global_view_is_refused() -> None:
    with pytest.raises(InputError, match="let the policy make two of the full size"):
        dinov2().loss(views(0, (SIZE, 32)), torch.arange(4), at(0))
