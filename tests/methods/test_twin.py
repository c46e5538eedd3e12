import torch
from lightly.models.utils import update_momentum
from timm.layers import DropPath

from leukoscope.encoders.backbone import create_backbone
from leukoscope.methods.twin import follow, momentum_twin


def test_a_twin_starts_alike_learns_nothing_and_drops_no_path() -> None:
    backbone = create_backbone("test_vit", channels=1, seed=0, size=32, drop_path=0.3)
    assert max(part.drop_prob for part in backbone.modules() if isinstance(part, DropPath)) > 0.29
    twin = momentum_twin(backbone)
    assert all(torch.equal(a, b) for a, b in zip(backbone.parameters(), twin.parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    x = torch.randn(4, 1, 32, 32)
    assert torch.equal(twin.train()(x), twin.eval()(x))
    assert not torch.equal(backbone.train()(x), backbone.eval()(x))


def test_a_twin_follows_as_lightly_has_it_and_keeps_its_own_tensors() -> None:
    backbone = create_backbone("test_vit", channels=1, seed=0, size=32)
    twin, theirs = momentum_twin(backbone), momentum_twin(backbone)
    held = [parameter.data_ptr() for parameter in twin.parameters()]
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn_like(parameter))
    follow(backbone, twin, 0.9)
    update_momentum(backbone, theirs, m=0.9)
    for own, other in zip(twin.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, other)
    assert [parameter.data_ptr() for parameter in twin.parameters()] == held
