from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.cells.writer import CellSetWriter
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import random_encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.remedies import Recolour, reestimate_batch_norm


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    return simulate(tmp_path_factory.mktemp("sim") / "c.set", cells=48, size=32, patients=2)


def coloured(folder: Path, values: np.ndarray) -> CellSet:
    """A CellSet of one colour ``(n, C)`` uint8 a cell."""
    pixels = np.broadcast_to(values[:, :, None, None], (*values.shape, 8, 8)).astype(np.uint8)
    names = ("red", "green", "blue")[: values.shape[1]] if values.shape[1] == 3 else ("grey",)
    folder.mkdir()
    writer = CellSetWriter(folder, channels=names, height=8, width=8, dtype=np.dtype("uint8"))
    writer.add(np.ascontiguousarray(pixels), [{"cell_id": f"{i:x}:{i}", "source": f"{i}"} for i in range(len(values))])
    writer.finish(packing={"rule": "none"}, bit_depth=8)
    return CellSet.open(folder)


def test_batch_norms_take_the_statistics_of_the_new_cells_and_weights_stay(cells: CellSet) -> None:
    encoder = random_encoder("resnet18", cells, 32)
    adapted = reestimate_batch_norm(encoder, cells, batch=64, device="cpu")
    first = adapted.backbone.get_submodule("bn1")
    assert isinstance(first, nn.BatchNorm2d)
    x = encoder.prepare(torch.from_numpy(cells.read(slice(None))), cells.info.intensity)
    maps = encoder.backbone.get_submodule("conv1")(x)
    torch.testing.assert_close(first.running_mean, maps.mean(dim=(0, 2, 3)), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(first.running_var, maps.var(dim=(0, 2, 3)), atol=1e-4, rtol=1e-3)
    before, after = dict(encoder.backbone.named_parameters()), dict(adapted.backbone.named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert first.momentum == 0.1
    assert not adapted.backbone.training
    assert torch.equal(encoder.backbone.get_buffer("bn1.running_mean"), torch.zeros(64))


def test_a_network_without_batch_norm_is_refused(cells: CellSet) -> None:
    with pytest.raises(InputError, match="batch-norm: test_vit has no batch norm; leave this remedy out"):
        reestimate_batch_norm(random_encoder("test_vit", cells, 32), cells)


@pytest.mark.parametrize("channels", [1, 3])
def test_new_colours_get_mean_and_covariance_of_the_known(tmp_path: Path, channels: int) -> None:
    """In the space in which colours are mapped: optical densities of RGB, intensities of a single channel."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(2, 400, channels))
    known = 140 + 12 * drawn[0] @ (np.eye(channels) + 0.5)
    new = 110 + 8 * drawn[1] * np.arange(1, channels + 1)
    sets = [coloured(tmp_path / f"{i}.set", values.clip(40, 220).round()) for i, values in enumerate((new, known))]
    recolour = Recolour.between(*sets)
    x, target = (torch.from_numpy(each.read(slice(None))[:, :, :1, :1]).float() / 255 for each in sets)
    mapped = recolour(x)
    space = (lambda v: -v.log()) if channels == 3 else (lambda v: v)
    found, wanted = (space(v)[:, :, 0, 0].double().numpy() for v in (mapped, target))
    np.testing.assert_allclose(found.mean(axis=0), wanted.mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(np.cov(found.T), np.cov(wanted.T), rtol=0.02, atol=2e-4)


def test_cells_are_left_alone_where_colours_agree(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(60, 200, size=(100, 3))
    cells = coloured(tmp_path / "a.set", values)
    x = torch.rand(2, 3, 4, 4) * 0.7 + 0.2
    torch.testing.assert_close(Recolour.between(cells, cells)(x), x, atol=1e-4, rtol=1e-4)


def test_features_follow_the_colours(tmp_path: Path) -> None:
    """A set seen under a lamp of two thirds is recoloured to what it was: so are its features."""
    values = np.random.default_rng(0).integers(120, 240, size=(60, 1))
    known, dim = coloured(tmp_path / "a.set", values), coloured(tmp_path / "b.set", values * 2 // 3)
    encoder = random_encoder("test_resnet", known, 32)
    target, plain = embed(known, encoder, device="cpu").x, embed(dim, encoder, device="cpu").x
    again = embed(dim, encoder, device="cpu", recolour=Recolour.between(dim, known)).x
    assert np.abs(again - target).max() < 0.05 * np.abs(plain - target).max()


def test_sets_of_other_channels_are_refused(cells: CellSet, tmp_path: Path) -> None:
    rgb = coloured(tmp_path / "rgb.set", np.full((4, 3), 90))
    with pytest.raises(InputError, match="has channels red, green, blue, "):
        Recolour.between(rgb, cells)
