import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.explain.gradcam import explained_layer, grad_cam


def linear_head(encoder: Encoder, classes: int = 3) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(encoder.info.feature_dim, classes)


def prepared(encoder: Encoder, cells: CellSet, rows: np.ndarray) -> Tensor:
    return encoder.prepare(torch.from_numpy(cells.read(rows)))


def test_with_average_pooling_it_is_the_class_activation_map(cells: CellSet) -> None:
    """Selvaraju et al. 2017, section 3.1: Grad-CAM generalises CAM (Zhou et al. 2016), whose weights are the head's."""
    encoder = random_encoder("resnet18", cells, size=128, seed=0)
    head, rows = linear_head(encoder), np.array([3, 1])
    heat = grad_cam(encoder, cells, rows, head, np.array([2, 0]), device="cpu")
    assert heat.shape == (2, 40, 40)
    assert heat.dtype == np.float32
    with torch.no_grad():
        maps = encoder.backbone.forward_features(prepared(encoder, cells, rows))
        cam = torch.einsum("bchw,bc->bhw", maps, head.weight[[2, 0]]).relu()[:, None]
        cam = nn.functional.interpolate(cam, (40, 40), mode="bilinear")[:, 0]
    np.testing.assert_allclose(heat, (cam / cam.amax((1, 2), keepdim=True)).numpy(), atol=1e-4)


def test_a_head_on_several_stages_is_explained_through_all_of_them(cells: CellSet) -> None:
    encoder = random_encoder("resnet18", cells, size=128, seed=0)
    last, wide, rows, target = linear_head(encoder), nn.Linear(128 + 256 + 512, 3), np.array([3, 1]), np.array([2, 0])
    with torch.no_grad():
        wide.weight[:, :-512], wide.weight[:, -512:], wide.bias = 0.0, last.weight, last.bias
    plain = grad_cam(encoder, cells, rows, last, target, device="cpu")
    blind = grad_cam(encoder, cells, rows, wide, target, stages=3, device="cpu")
    np.testing.assert_allclose(blind, plain, atol=1e-4)


def test_a_transformer_is_gradient_times_activation_of_its_patch_tokens(cells: CellSet) -> None:
    encoder = random_encoder("vit_tiny_patch16_224", cells, size=64, seed=0)
    head, rows = linear_head(encoder), np.arange(2)
    heat = grad_cam(encoder, cells, rows, head, np.array([1, 1]), device="cpu")
    kept: list[Tensor] = []
    x = prepared(encoder, cells, rows).requires_grad_(True)
    hook = encoder.backbone.blocks[-1].norm1.register_forward_hook(lambda _module, _input, output: kept.append(output))
    logits = head(encoder.backbone(x))
    hook.remove()
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), kept[0])
    product = (gradient * kept[0]).sum(-1)[:, 1:].reshape(2, 1, 4, 4).relu().detach()
    expected = nn.functional.interpolate(product, (40, 40), mode="bilinear")[:, 0]
    np.testing.assert_allclose(heat, (expected / expected.amax((1, 2), keepdim=True)).numpy(), atol=1e-4)


@pytest.mark.parametrize("name", ["convnext_atto", "tf_efficientnet_lite0", "swin_tiny_patch4_window7_224"])
def test_every_family_gives_heat_of_the_cells_size(cells: CellSet, name: str) -> None:
    encoder = random_encoder(name, cells, size=56, seed=0)
    heat = grad_cam(encoder, cells, np.arange(3), linear_head(encoder), device="cpu", batch=2)
    assert heat.shape == (3, 40, 40)
    assert np.isfinite(heat).all()
    assert heat.min() >= 0
    assert heat.max() <= 1


def test_the_batch_does_not_matter_and_the_predicted_class_is_the_default(cells: CellSet) -> None:
    encoder = random_encoder("resnet18", cells, size=64, seed=0)
    head = linear_head(encoder)
    predicted = head(encoder.encode(prepared(encoder, cells, np.arange(5))).clone()).argmax(1).numpy()
    whole = grad_cam(encoder, cells, np.arange(5), head, device="cpu")
    parts = grad_cam(encoder, cells, np.arange(5), head, predicted, device="cpu", batch=2)
    np.testing.assert_allclose(whole, parts, atol=1e-4)


@pytest.mark.parametrize(("size", "layer"), [(224, "layer4"), (64, "layer3"), (40, "layer2")])
def test_small_images_are_explained_where_the_map_still_says_where(cells: CellSet, size: int, layer: str) -> None:
    backbone = random_encoder("resnet18", cells, size=size, seed=0).backbone
    assert explained_layer(backbone, torch.zeros(1, 1, size, size)) is backbone.get_submodule(layer)


def test_a_truncated_network_is_explained_at_its_own_end(cells: CellSet) -> None:
    encoder = random_encoder("resnet18", cells, size=128, seed=0, truncate_after=2)
    layer = explained_layer(encoder.backbone, torch.zeros(1, 1, 128, 128))
    assert layer is encoder.backbone.layer2
    heat = grad_cam(encoder, cells, np.arange(2), linear_head(encoder), device="cpu")
    assert heat.shape == (2, 40, 40)
    assert heat.max() == 1


def test_nothing_for_the_class_is_no_heat_rather_than_noise(cells: CellSet) -> None:
    encoder = random_encoder("resnet18", cells, size=64, seed=0)
    head = linear_head(encoder)
    nn.init.zeros_(head.weight)
    assert grad_cam(encoder, cells, np.arange(2), head, device="cpu").max() == 0
