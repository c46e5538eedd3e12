import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leukoscope.cells.labels import labels_of
from leukoscope.cells.simulate import simulate
from leukoscope.common.errors import CheckFailed
from leukoscope.training.method import Method, Progress
from leukoscope.training.monitors import Monitor, refuse_collapse
from leukoscope.training.source import Batches

CPU = torch.device("cpu")


class Chance(Method):
    def loss(self, views: list[Tensor], cells: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError

    def chance_loss(self) -> float:
        return 4.0


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Batches:
    cells = simulate(tmp_path_factory.mktemp("monitors") / "a.set", cells=200, size=16, jobs=1)
    return Batches([cells], 10, seed=0)


def test_features_that_hold_the_label_are_found_by_neighbours(source: Batches) -> None:
    labels = labels_of(source.sets[0])
    kinds = np.unique(labels.astype(str), return_inverse=True)[1]

    class Cheat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            shown = [int(np.flatnonzero((everything == image.numpy()).all((1, 2, 3)))[0]) for image in x]
            return nn.functional.one_hot(torch.from_numpy(kinds)[shown]).float()

    everything = source.sets[0].read(slice(None)).astype(np.float32)
    numbers = Monitor(source, lambda pixels: pixels.float(), 200, 0, labels).measure(Cheat(), CPU)
    # Each half votes for the other; a kind with fewer than ten cells there may be outvoted among 20 neighbours.
    assert numbers["knn"] > 0.9
    assert numbers["rankme"] == pytest.approx(len(set(labels)), rel=0.3)


def test_measuring_leaves_the_network_as_it_was(source: Batches) -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(256), nn.Linear(256, 8)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    numbers = Monitor(source, lambda pixels: pixels.float(), 30, 0).measure(network, CPU)
    assert set(numbers) == {"spread", "rankme"}
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_one_view_aligns_with_nothing(source: Batches) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 8))
    monitor = Monitor(source, lambda pixels: pixels.float(), 30, 0)
    assert monitor.contrast(network, CPU, lambda pixels, cells, epoch: [pixels.float()], 0) == {}


def test_two_equal_views_align(source: Batches) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 8))
    monitor = Monitor(source, lambda pixels: pixels.float(), 30, 0)
    numbers = monitor.contrast(network, CPU, lambda pixels, cells, epoch: [pixels.float(), pixels.float()], 0)
    assert numbers["alignment"] == pytest.approx(0.0, abs=1e-5)
    assert numbers["uniformity"] < 0


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"loss": 1.0, "spread": 0.001}, r"collapsed in epoch 3: feature spread 0\.0010 of 1; lower the learning rate"),
        ({"loss": 1.0, "spread": 0.5, "rankme": 1.05}, r"collapsed in epoch 3: effective rank 1\.05"),
        ({"loss": 3.99, "top1": 0.01}, r"nothing learned by epoch 3: loss 3\.990 is that of chance, 4\.000"),
    ],
)
def test_a_collapsed_run_is_told_so(numbers: dict[str, float], message: str) -> None:
    with pytest.raises(CheckFailed, match=message):
        refuse_collapse(numbers, Chance(), 3)


def test_a_learning_run_is_left_alone() -> None:
    refuse_collapse({"loss": 2.0, "top1": 0.4, "spread": 0.3, "rankme": 20.0}, Chance(), 3)
