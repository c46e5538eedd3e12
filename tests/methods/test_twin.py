import torch
from timm.layers import DropPath

from leukoscope.encoders.backbone import create_backbone
from leukoscope.methods.twin import momentum_twin


def test_a_twin_starts_alike_learns_nothing_and_drops_no_path() -> None:
    backbone = create_backbone("test_vit", channels=1, seed=0, size=32, drop_path=0.3)
    assert max(part.drop_prob for part in backbone.modules() if isinstance(part, DropPath)) > 0.29
    twin = momentum_twin(backbone)
    assert all(torch.equal(a, b) for a, b in zip(backbone.parameters(), twin.parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    x = torch.randn(4, 1, 32, 32)
    assert torch.equal(twin.train()(x), twin.eval()(x))
    assert not torch.equal(backbone.train()(x), backbone.eval()(x))
