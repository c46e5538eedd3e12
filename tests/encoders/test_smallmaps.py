import copy

import pytest
import torch
from torch import nn

from leukoscope.encoders.smallmaps import SmallMapConv2d, speed_up_small_maps

CASES = {
    "3x3 on 2x2": (nn.Conv2d(6, 5, 3, padding=1, bias=False), (2, 2)),
    "stride 2 from 4x4": (nn.Conv2d(6, 5, 3, stride=2, padding=1), (4, 4)),
    "stride 2 from 3x3": (nn.Conv2d(6, 5, 3, stride=2, padding=1), (3, 3)),
    "1x1 with stride": (nn.Conv2d(6, 5, 1, stride=2), (4, 4)),
    "oblong": (nn.Conv2d(6, 5, (3, 1), stride=(2, 1), padding=(1, 0)), (3, 2)),
    "too large a map": (nn.Conv2d(6, 5, 3, padding=1), (8, 8)),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_a_convolution(case: str, layout: torch.memory_format) -> None:
    conv, size = CASES[case]
    conv = copy.deepcopy(conv).to(memory_format=layout)
    twin = SmallMapConv2d.of(copy.deepcopy(conv))
    x = torch.randn(3, 6, *size, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [module(each) for module, each in zip((conv, twin), inputs, strict=True)]
    weight = torch.randn(outputs[0].shape, generator=torch.Generator().manual_seed(1))
    for output in outputs:
        (output * weight).sum().backward()
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
    for ours, theirs in zip(twin.parameters(), conv.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_only_plain_convolutions_are_replaced_and_the_state_stays() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    )
    before = network.state_dict()
    kinds = [type(each) for each in speed_up_small_maps(network)]
    assert kinds == [SmallMapConv2d, *[nn.Conv2d] * 4]
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(after[key] is not None and torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize(("size", "stride"), [(2, 1), (4, 2), (1, 2), (2, 3)])
def test_values_and_gradients_in_bfloat16_are_those_of_float32_rounded(size: int, stride: int) -> None:
    """The last two see less of a map than the kernel holds; torch's own gradient there is not written at all."""
    twin = SmallMapConv2d.of(nn.Conv2d(32, 48, 3, stride=stride, padding=1))
    x = torch.randn(8, 32, size, size, generator=torch.Generator().manual_seed(0))
    found = []
    for half in (False, True):
        twin.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            y = twin(x)
        assert y.dtype == (torch.bfloat16 if half else torch.float32)
        y.float().square().mean().backward()
        found.append((y.detach().float(), twin.weight.grad, twin.bias.grad))
    for full, rounded in zip(*found, strict=True):
        assert torch.linalg.norm(rounded - full) < 0.02 * torch.linalg.norm(full)
