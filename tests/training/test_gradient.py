"""Gradient caching against one graph over all batches."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.training.gradient import accumulated, cached, mark_forward, seeded, step_gradient
from leukoscope.training.loop import fit
from leukoscope.training.method import JointEmbedding, Progress
from leukoscope.training.precision import create_fabric
from leukoscope.training.settings import TrainSettings
from leukoscope.training.source import Batch, Batches

START = Progress(seed=3, step=0, steps=10, epoch=0)


class Contrast(JointEmbedding):
    """Two views of a cell among all: InfoNCE, which sees every other cell that it is given."""

    views = (2, 2)

    def __init__(self, norm: nn.Module, dropout: float = 0.0, exact: bool = True) -> None:
        super().__init__()
        self.exact = exact
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.encoder = nn.Sequential(nn.Conv2d(1, 8, 5, 3), norm, nn.ReLU(), nn.Dropout(dropout), nn.Flatten())
            self.head = nn.Linear(8 * 16, 6)

    def project(self, views: list[Tensor], progress: Progress) -> Tensor:
        return F.normalize(torch.stack([self.head(self.encoder(view)) for view in views]), dim=-1)

    def compare(self, z: Tensor, cells: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return F.cross_entropy(z[0] @ z[1].T / 0.2, torch.arange(z.shape[1])), {}


def group_norm() -> nn.Module:
    return nn.GroupNorm(2, 8)


def views(batch: Batch) -> tuple[list[Tensor], Tensor]:
    return [batch.pixels, batch.pixels.flip(-1) + 0.1], batch.cells


def batches(count: int = 3, size: int = 6) -> list[Batch]:
    drawn = torch.Generator().manual_seed(1)
    return [Batch(torch.rand(size, 1, 16, 16, generator=drawn), torch.arange(size)) for _ in range(count)]


def gradients(method: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in method.parameters()]


@pytest.mark.parametrize(("norm", "dropout"), [(group_norm, 0.0), (group_norm, 0.4), (lambda: nn.BatchNorm2d(8), 0.4)])
def test_the_cached_gradient_is_that_of_one_graph(norm: Callable[[], nn.Module], dropout: float) -> None:
    fabric = create_fabric(TrainSettings(device="cpu", precision="fp32"))
    method = Contrast(norm(), dropout)
    module = fabric.setup_module(method)
    mark_forward(module, method)
    loss, _ = cached(fabric, module, batches(), views, START)
    ours, after = gradients(method), dict(method.state_dict())

    method = Contrast(norm(), dropout)
    parts = []
    for number, batch in enumerate(batches()):
        with seeded(START._replace(batch=number), fabric):
            parts.append(method.project(views(batch)[0], START))
    expected, _ = method.compare(torch.cat(parts, dim=1), torch.arange(18), START)
    expected.backward()
    assert torch.allclose(loss, expected)
    for mine, theirs in zip(ours, gradients(method), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)
    # Running statistics have seen every batch once.
    for key, value in method.state_dict().items():
        assert torch.allclose(after[key], value, atol=1e-6), key


def test_accumulated_batches_are_compared_each_by_itself() -> None:
    fabric = create_fabric(TrainSettings(device="cpu", precision="fp32"))
    method = Contrast(group_norm(), exact=False)
    module = fabric.setup_module(method)
    mark_forward(module, method)
    losses = [loss.item() for loss, _ in accumulated(fabric, module, batches(), 3, views, START)]
    ours = gradients(method)
    method.zero_grad()
    each = [method.loss(*views(batch), START)[0] for batch in batches()]
    torch.stack(each).mean().backward()
    assert losses == pytest.approx([loss.item() for loss in each])
    for mine, theirs in zip(ours, gradients(method), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    return simulate(tmp_path_factory.mktemp("gradient") / "a.set", cells=48, size=16, jobs=1)


def trained(cells: CellSet, out: Path, exact: bool, **settings: int) -> nn.Module:
    out.mkdir()
    chosen = TrainSettings.parse({"epochs": 2, "lr": 0.1, "device": "cpu", "precision": "fp32", **settings}, "test")
    method = Contrast(group_norm(), exact=exact)

    def make(pixels: Tensor, cells: Tensor, epoch: int) -> list[Tensor]:
        x = pixels.float() / 255
        return [x, x.flip(-1)]

    fit(create_fabric(chosen), method, Batches([cells], chosen.batch, 0), make, chosen, out)
    return method


def test_exact_accumulation_trains_as_one_large_batch_and_plain_does_not(cells: CellSet, tmp_path: Path) -> None:
    large = trained(cells, tmp_path / "large", exact=False, batch=24)
    exact = trained(cells, tmp_path / "exact", exact=True, batch=6, accumulate=4)
    plain = trained(cells, tmp_path / "plain", exact=False, batch=6, accumulate=4)
    for name, weight in large.named_parameters():
        assert torch.allclose(exact.get_parameter(name), weight, atol=1e-5), name
    assert not torch.allclose(plain.head.weight, large.head.weight, atol=1e-3)


@pytest.mark.parametrize("exact", [False, True])
def test_on_one_device_networks_compute_in_the_precision_and_losses_in_full(exact: bool) -> None:
    seen: list[tuple[str, torch.dtype]] = []

    class Told(Contrast):
        def compare(self, z: Tensor, cells: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
            seen.append(("compared", (z[0] @ z[1].T).dtype))
            return super().compare(z, cells, progress)

    method = Told(group_norm(), exact=exact)
    method.head.register_forward_hook(lambda head, x, out: seen.append(("projected", out.dtype)))
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    module = fabric.setup_module(method)
    mark_forward(module, method)
    for _ in step_gradient(fabric, module, batches(), 3, views, START):
        pass
    assert dict(seen) == {"projected": torch.bfloat16, "compared": torch.float32}
    assert len(set(seen)) == 2
    assert all(parameter.grad.dtype == torch.float32 for parameter in method.parameters())
