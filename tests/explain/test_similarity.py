from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.encoders.bundle import Encoder, EncoderInfo, random_encoder
from leukoscope.explain.similarity import Similarity, likeness

SIDE = 24
BRIGHT, DARK = (slice(2, 8), slice(3, 9)), (slice(14, 22), slice(12, 20))


class TwoDetectors(nn.Module):
    """A network that can be followed by hand: one map of what is brighter than grey, one of what is darker."""

    num_features = 2

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = [{"module": "maps", "reduction": 1}]
        conv = nn.Conv2d(1, 2, 1, bias=False)
        conv.weight = nn.Parameter(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
        self.maps = nn.Sequential(conv, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.maps(x).mean(dim=(2, 3))
        return pooled


@pytest.fixture
def squares(write_cells: Callable[..., CellSet]) -> CellSet:
    """A cell with a bright square, one with a bright and a dark square, one with a bright square elsewhere."""
    pixels = np.full((3, 1, SIDE, SIDE), 128, np.uint8)
    pixels[0, 0, 10:14, 10:14] = 255
    pixels[1, 0, *BRIGHT], pixels[1, 0, *DARK] = 240, 20
    pixels[2, 0, 4:9, 15:20] = 200
    return write_cells(pixels)


@pytest.fixture
def detectors(squares: CellSet) -> Encoder:
    network = TwoDetectors()
    grey = (128 / 255,)
    info = EncoderInfo.of(squares, network, timm_name="detectors", size=SIDE, method="hand", mean=grey, std=(1.0,))
    return Encoder(network, info)


def test_heat_lies_where_the_bright_square_is_that_both_cells_have(squares: CellSet, detectors: Encoder) -> None:
    found = likeness(detectors, squares, np.array([1]), np.array([0]), device="cpu")
    expected = np.zeros((SIDE, SIDE))
    expected[BRIGHT] = 1
    np.testing.assert_allclose(found.heat[0], expected, atol=1e-5)


def test_values_against_the_gradient_by_hand(squares: CellSet, detectors: Encoder) -> None:
    """With r and f of length 1 the gradient of their cosine is (r - cos f) / |f|; Grad-CAM weighs the maps with it."""
    reference, rows = np.array([1]), np.array([0, 2])
    found = likeness(detectors, squares, rows, reference, device="cpu")
    intensity = squares.read(np.arange(3))[:, 0] / 255 - 128 / 255
    maps = np.stack([intensity.clip(0), (-intensity).clip(0)], axis=1)
    f = maps.mean(axis=(2, 3))
    unit = f / np.linalg.norm(f, axis=1, keepdims=True)
    for at, row in enumerate(rows):
        cosine = unit[row] @ unit[1]
        gradient = (unit[1] - cosine * unit[row]) / np.linalg.norm(f[row])
        evidence = np.einsum("k,khw->hw", gradient, maps[row]).clip(0)
        np.testing.assert_allclose(found.similarity[at], cosine, rtol=1e-5)
        np.testing.assert_allclose(found.heat[at], evidence / max(evidence.max(), 1e-12), atol=1e-4)


def test_the_gradient_of_the_head_is_the_formula() -> None:
    random = torch.Generator().manual_seed(0)
    x, r = torch.randn(4, 6, generator=random, requires_grad=True), torch.randn(1, 6, generator=random)
    cosine = Similarity(r)(x)
    assert cosine.shape == (4, 1)
    (found,) = torch.autograd.grad(cosine.sum(), x)
    f, direction = x / x.norm(dim=1, keepdim=True), r / r.norm()
    expected = (direction - (f @ direction.T) * f) / x.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close((found * x).sum(dim=1), torch.zeros(4), atol=1e-6, rtol=0)


def test_of_several_references_each_has_one_say_however_long_its_features() -> None:
    references = torch.tensor([[100.0, 0.0], [0.0, 1.0]])
    cosine = Similarity(references)(torch.tensor([[3.0, 3.0], [1.0, 0.0]]))[:, 0]
    torch.testing.assert_close(cosine, torch.tensor([1.0, 0.5**0.5]))


def test_the_reference_itself_has_no_heat_rather_than_the_noise_of_rounding(cells: CellSet) -> None:
    encoder = random_encoder("resnet18", cells, size=64, seed=0)
    found = likeness(encoder, cells, np.array([2, 3]), np.array([2]), device="cpu")
    assert found.similarity[0] == pytest.approx(1)
    assert found.heat[0].max() == 0
    assert found.heat[1].max() == pytest.approx(1)


def test_several_stages_are_compared_when_they_are_read(cells: CellSet) -> None:
    encoder = random_encoder("resnet18", cells, size=64, seed=0)
    one = likeness(encoder, cells, np.array([1, 2]), np.array([0]), device="cpu")
    three = likeness(encoder, cells, np.array([1, 2]), np.array([0]), stages=3, device="cpu")
    assert not np.allclose(one.similarity, three.similarity, atol=1e-4)
