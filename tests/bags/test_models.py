"""Models of bags against plain references, written out bag by bag, and against torchmil; values and gradients."""

import pytest
import torch
from torch import Tensor, nn
from torchmil import models as torchmil

from leukoscope.bags.abmil import ABMIL, ABMILSettings
from leukoscope.bags.class_attention import ClassAttention, ClassAttentionSettings, MapAttention
from leukoscope.bags.model import BagModel
from leukoscope.bags.pooled import Pooled, PooledSettings

SIZES = (5, 1, 9)
SMALL = ClassAttentionSettings(widths=(8, 10), reduced=6, attention=4, hidden=3)


def models() -> dict[str, BagModel]:
    torch.manual_seed(0)
    return {
        "class-attention": ClassAttention(7, 3, SMALL),
        "abmil": ABMIL(7, 3, ABMILSettings(attention=4)),
        "abmil-dinobloom": ABMIL(7, 3, ABMILSettings(attention=4, gated=False, hidden=5)),
        "mean": Pooled(7, 3, PooledSettings(pool="mean")),
        "max": Pooled(7, 3, PooledSettings(pool="max")),
    }


def cells(seed: int = 0) -> tuple[list[Tensor], Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    bags = [torch.randn(size, 7, generator=drawn) for size in SIZES]
    return bags, torch.cat(bags), torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))


def test_class_attention_is_equations_7_to_9() -> None:
    """As the predecessor's public code has it: softmax over the cells of a patient, one classifier a class."""
    model = models()["class-attention"]
    bags, x, of = cells()
    judged = model(x, of, len(bags))
    logits, attention = [], []
    for bag in bags:
        z = model.reduce(bag)
        a = model.attend(z).softmax(dim=0)  # (n, K)
        logits.append(torch.cat([model.classify[c]((a[:, c : c + 1] * z).sum(dim=0)) for c in range(3)]))
        attention.append(a)
    torch.testing.assert_close(judged.logits, torch.stack(logits))
    torch.testing.assert_close(judged.attention, torch.cat(attention))


@pytest.mark.parametrize("gated", [False, True])
def test_abmil_is_torchmils_in_values_and_gradients(gated: bool) -> None:
    """torchmil has one logit; ours has two, of which the first is made its own."""
    torch.manual_seed(0)
    theirs = torchmil.ABMIL(in_shape=(7,), att_dim=4, gated=gated)
    ours = ABMIL(7, 2, ABMILSettings(attention=4, gated=gated))
    pairs = [(ours.tanh, theirs.pool.fc1), (ours.score, theirs.pool.fc2)]
    pairs += [(ours.gate, theirs.pool.fc_gated)] if gated else []
    with torch.no_grad():
        for mine, other in pairs:
            mine.load_state_dict({key.rpartition(".")[2]: value for key, value in other.state_dict().items()})
        own = {key.rpartition(".")[2]: value for key, value in theirs.classifier.state_dict().items()}
        ours.classify.weight[0], ours.classify.bias[0] = own["weight"][0], own["bias"][0]
    bags, x, of = cells()
    padded, mask = nn.utils.rnn.pad_sequence(bags, batch_first=True), torch.zeros(len(bags), max(SIZES))
    for place, size in enumerate(SIZES):
        mask[place, :size] = 1
    x.requires_grad_()
    padded.requires_grad_()
    judged = ours(x, of, len(bags))
    logits, scores = theirs(padded, mask, return_att=True)
    torch.testing.assert_close(judged.logits[:, 0], logits)
    theirs_attention = scores.masked_fill(mask == 0, float("-inf")).softmax(dim=1)
    torch.testing.assert_close(judged.attention[:, 0], theirs_attention[mask.bool()])
    judged.logits[:, 0].square().sum().backward()
    logits.square().sum().backward()
    torch.testing.assert_close(x.grad, padded.grad[mask.bool()])


def test_pooling_takes_the_mean_or_the_greatest_of_each_feature() -> None:
    bags, x, of = cells()
    found = models()
    for name, pool in (("mean", lambda bag: bag.mean(dim=0)), ("max", lambda bag: bag.amax(dim=0))):
        expected = found[name].classify(torch.stack([pool(bag) for bag in bags]))
        torch.testing.assert_close(found[name](x, of, len(bags)).logits, expected)


@pytest.mark.parametrize("name", list(models()))
def test_neither_the_order_of_cells_nor_the_other_bags_change_anything(name: str) -> None:
    model = models()[name]
    bags, x, of = cells()
    together = model(x, of, len(bags))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    shuffled = model(x[order], of[order], len(bags))
    torch.testing.assert_close(shuffled.logits, together.logits)
    if together.attention is not None:
        torch.testing.assert_close(shuffled.attention, together.attention[order])
    for place, bag in enumerate(bags):
        alone = model(bag, torch.zeros(len(bag), dtype=torch.int64), 1)
        torch.testing.assert_close(alone.logits[0], together.logits[place])
        if alone.attention is not None:
            torch.testing.assert_close(alone.attention.sum(dim=0), torch.ones(alone.attention.shape[1]))


@pytest.mark.parametrize("sides", [(5, 5), (2, 2), (1, 1), (3, 2)])
def test_over_maps_four_convolutions_reduce_each_cell(sides: tuple[int, int]) -> None:
    """As the predecessor's public code has it: 2x2 convolutions with ReLU, then the greatest of what is left."""
    torch.manual_seed(0)
    model = MapAttention((7, *sides), 3, ClassAttentionSettings(widths=(8, 10, 9), reduced=6, attention=4, hidden=3))
    x = torch.randn(15, 7, *sides, generator=torch.Generator().manual_seed(0))
    layers = [part for part in model.reduce if isinstance(part, nn.Conv2d)]
    expected = x
    for layer in layers:
        assert layer.kernel_size == tuple(min(2, side) for side in expected.shape[2:])
        expected = nn.functional.conv2d(expected, layer.weight, layer.bias).relu()
    assert len(layers) == 4
    assert torch.allclose(model.reduce(x), expected.amax(dim=(2, 3)), atol=1e-6)
    of = torch.repeat_interleave(torch.arange(3), torch.tensor(SIZES))
    judged = model(x, of, 3)
    assert judged.attention is not None
    assert torch.allclose(judged.attention[of == 0].sum(dim=0), torch.ones(3))


def test_on_maps_of_one_pixel_both_reductions_are_one() -> None:
    pooled, mapped = ClassAttention(7, 3, SMALL), MapAttention((7, 1, 1), 3, SMALL)
    layers = zip(mapped.state_dict().items(), pooled.state_dict().values(), strict=True)
    pooled.load_state_dict({name: ours.reshape(theirs.shape) for (name, ours), theirs in layers})
    _, x, of = cells()
    assert torch.allclose(pooled(x, of, 3).logits, mapped(x[:, :, None, None], of, 3).logits, atol=1e-5)


@pytest.mark.parametrize("name", [*models(), "map-attention"])
def test_in_bfloat16_a_step_is_that_of_float32_but_for_rounding(name: str) -> None:
    """A wide network over a bag of many cells, so that sums taken in bfloat16 would be seen."""
    torch.manual_seed(0)
    settings = ClassAttentionSettings(widths=(48, 48, 32), reduced=32, attention=16, hidden=16)
    model, x = models().get(name), torch.randn(3000, 7)
    if name == "map-attention":
        model, x = MapAttention((7, 2, 2), 3, settings), torch.randn(3000, 7, 2, 2)
    elif name == "class-attention":
        model = ClassAttention(7, 3, settings)
    assert model is not None
    of, y = torch.arange(3000) % 3, torch.tensor([0, 2, 1])

    def step(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = model.loss(x, of, 3, y)
            attention = model(x, of, 3).attention
        loss.backward()  # type: ignore[no-untyped-call]
        if attention is not None:
            sums = torch.stack([attention[of == number].sum(dim=0) for number in range(3)])
            torch.testing.assert_close(sums, torch.ones_like(sums))
        return loss.detach(), torch.cat([weights.grad.flatten() for weights in model.parameters()])

    loss, gradient = step(torch.float32)
    rounded, roughly = step(torch.bfloat16)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, loss, rtol=0.01, atol=0.01)
    assert (roughly - gradient).norm() < 0.1 * gradient.norm()  # most of it where maps are pooled to their greatest
