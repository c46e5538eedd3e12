import pytest
import torch
from torch import nn

from leukoscope.encoders.backbone import create_backbone
from leukoscope.encoders.folding import fold_norms
from leukoscope.encoders.readout import Readout


def frozen(name: str) -> nn.Module:
    """A network whose norms have something to say: running statistics and weights away from 0 and 1."""
    network = create_backbone(name, channels=1, seed=0, size=64).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.running_var, norm.weight):
                values.copy_(0.5 + torch.rand(values.shape, generator=generator))
            for values in (norm.running_mean, norm.bias):
                values.copy_(torch.rand(values.shape, generator=generator) - 0.5)
    return network


@pytest.mark.parametrize("name", ["resnet10t", "resnet18", "resnet26d", "tf_efficientnet_lite0"])
def test_values_stay(name: str) -> None:
    network = frozen(name)
    folded = fold_norms(network)
    assert sum(isinstance(each, nn.BatchNorm2d) for each in folded.modules()) < sum(
        isinstance(each, nn.BatchNorm2d) for each in network.modules()
    )
    x = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-4)


def test_stages_are_read_from_it_and_the_network_itself_is_untouched() -> None:
    network = frozen("resnet18")
    state = {key: value.clone() for key, value in network.state_dict().items()}
    x = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    readout = Readout(stages=4)
    torch.testing.assert_close(readout(fold_norms(network), x), readout(network, x), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_what_cannot_be_folded_comes_back() -> None:
    class Shared(nn.Module):
        """One convolution feeds a norm and the sum, another is called twice."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
            self.norms = nn.ModuleList([nn.BatchNorm2d(1) for _ in range(2)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            return self.norms[1](self.b(self.b(self.norms[0](y) + y)))

    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    for network in (Shared().eval(), Branching(), create_backbone("vit_tiny_patch16_224", channels=1, seed=0, size=64)):
        assert fold_norms(network) is network
