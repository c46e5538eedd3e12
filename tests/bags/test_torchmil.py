"""The adapter against the models themselves, called as torchmil's users call them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchmil import models

from leukoscope.bags.bags import bags_of
from leukoscope.bags.crossval import BagSettings, cross_validate_bags
from leukoscope.bags.folds import bag_folds
from leukoscope.bags.registry import model_of
from leukoscope.bags.torchmil import TorchMIL, TorchMILSettings
from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features

SIZES = (5, 1, 9)


def cells() -> tuple[list[Tensor], Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(0)
    bags = [torch.randn(size, 7, generator=drawn) for size in SIZES]
    return bags, torch.cat(bags), torch.repeat_interleave(torch.arange(3), torch.tensor(SIZES))


@pytest.mark.parametrize("name", ["ABMIL", "TransformerABMIL", "DSMIL", "CLAM_SB", "TransMIL"])
def test_each_class_has_a_model_of_torchmil_and_its_loss(name: str) -> None:
    torch.manual_seed(0)
    ours = TorchMIL(7, 3, TorchMILSettings(name=name, options={"att_dim": 16} if name != "TransformerABMIL" else {}))
    ours.eval()
    bags, x, of = cells()
    judged = ours(x, of, 3)
    assert judged.attention is not None
    y = torch.tensor([2, 0, 1])
    expected = 0.0
    for number, model in enumerate(ours.of_class):
        assert type(model) is getattr(models, name)
        for place, bag in enumerate(bags):
            assert judged.logits[place, number].item() == pytest.approx(model(bag[None]).item(), abs=1e-5)
            torch.manual_seed(1)
            losses = model.compute_loss((y[place] == number).float()[None], bag[None])[1]
            expected += sum(float(value) for value in losses.values())
    torch.manual_seed(1)
    loss = ours.loss(x, of, 3, y)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours.loss(x, of, 3, y) == loss  # torchmil's models compute as they were written
    loss.backward()  # type: ignore[no-untyped-call]
    assert any(weights.grad is not None and weights.grad.abs().sum() > 0 for weights in ours.parameters())
    sums = torch.stack([judged.attention[of == number].sum(dim=0) for number in range(3)])
    assert torch.allclose(sums, torch.ones_like(sums), atol=1e-5)
    assert (judged.attention >= 0).all()


def test_it_is_trained_and_judged_as_the_others_are(make_cohort: Callable[..., Features]) -> None:
    bags = bags_of(make_cohort(0.2, patients=20))
    asked = {"device": "cpu", "train": {"epochs": 4}, "models": {"torchmil:DSMIL": {"att_dim": 8}}}
    settings = BagSettings.parse(asked, "test")
    folds = bag_folds(bags, n_folds=2, seed=0)
    found = cross_validate_bags(bags, folds, heads=("torchmil:DSMIL",), seeds=(0,), settings=settings)
    assert set(found.predictions["head"]) == {"torchmil:DSMIL"}
    assert {"a_AML", "a_healthy"} <= set(found.attention.columns)
    assert len(found.removal) == 20


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ABMILL", {}, "torchmil:ABMILL: torchmil has no such model of bags; choose from ABMIL"),
        ("SmoothABMIL", {}, "torchmil has no such model of bags"),  # its loss needs who is whose neighbour
        ("GTP", {}, "torchmil has no such model of bags"),  # it needs the places of cells, which have none
        ("DSMIL", {"depth": 3}, "torchmil:DSMIL: .*unexpected keyword argument 'depth'"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(name: str, options: dict[str, object], message: str) -> None:
    def build() -> None:
        model, settings = model_of(f"torchmil:{name}", options)
        model(7, 2, settings)  # type: ignore[call-arg]

    with pytest.raises(InputError, match=message):
        build()
