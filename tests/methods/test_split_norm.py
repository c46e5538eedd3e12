import copy

import pytest
import timm
import torch
from lightly.models.batchnorm import SplitBatchNorm as LightlySplitBatchNorm
from torch import nn

from leukoscope.common.errors import InputError
from leukoscope.methods.split_norm import SplitBatchNorm, check_groups, joined_state, split_batch_norm


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_equals_lightlys_in_values_and_gradients(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    theirs = LightlySplitBatchNorm(5, 4)
    plain = nn.BatchNorm2d(5)
    for norm in (theirs, plain):
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
    ours = SplitBatchNorm(plain, 4)
    x = torch.randn(12, 5, 3, 3) * 3 + 1
    # Theirs deals the cells out to the groups in turn; ours takes them in a row.
    dealt = torch.arange(12).view(3, 4).T.reshape(-1)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    out_a = theirs(a)
    out_b = ours(b[dealt].contiguous(memory_format=layout))
    assert torch.allclose(out_a[dealt], out_b, atol=1e-5)
    weights = torch.randn_like(out_a)
    (out_a * weights).sum().backward()
    (out_b * weights[dealt]).sum().backward()
    assert torch.allclose(a.grad, b.grad, atol=1e-5)
    assert torch.allclose(theirs.weight.grad, ours.weight.grad, atol=1e-4)
    assert torch.allclose(theirs.running_mean.view(4, 5), ours.running_mean, atol=1e-6)
    assert torch.allclose(theirs.running_var.view(4, 5), ours.running_var, atol=1e-5)
    assert torch.allclose(theirs.eval()(x), ours.eval()(x), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_the_plain_twin_takes_its_state_and_gives_its_features(name: str) -> None:
    plain = timm.create_model(name, num_classes=0, in_chans=1)
    split = split_batch_norm(copy.deepcopy(plain), 2)
    assert any(isinstance(module, SplitBatchNorm) for module in split.modules())
    x = torch.randn(4, 1, 32, 32)
    with torch.no_grad():
        split.train()(x)
        plain.load_state_dict(joined_state(split))
        assert torch.allclose(plain.eval()(x), split.eval()(x), atol=1e-4)


def test_one_group_is_the_network_itself() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    assert type(split_batch_norm(network, 1)[1]) is nn.BatchNorm2d


@pytest.mark.parametrize("cells", [3, 10, 4])
def test_a_batch_that_does_not_split_is_refused(cells: int) -> None:
    with pytest.raises(InputError, match=f"norm_groups 4: a batch of {cells} cells on one device does not split"):
        check_groups(cells, 4)
