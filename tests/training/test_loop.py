from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.common.errors import CheckFailed, InputError
from leukoscope.training.history import read_history
from leukoscope.training.loop import fit
from leukoscope.training.method import Method, Progress
from leukoscope.training.monitors import Monitor
from leukoscope.training.precision import create_fabric
from leukoscope.training.settings import TrainSettings
from leukoscope.training.source import Batches


class Regression(Method):
    """Tells the mean brightness of a cell; dropout draws from the global random state, as networks do."""

    watched = ("error",)

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.encoder = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(256, 4))
        self.register_buffer("steps_done", torch.zeros(()))

    def loss(self, views: list[Tensor], cells: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.encoder(views[0]).mean(1) - views[0].mean((1, 2, 3))).square().mean()
        return loss, {"error": loss.detach().sqrt()}

    def after_step(self, progress: Progress) -> None:
        self.steps_done += 1


class Killed(Exception):
    pass


def views(pixels: Tensor, cells: Tensor, epoch: int) -> list[Tensor]:
    return [pixels.float() / 255 + 0.01 * epoch]


def killed_at(batch: int) -> Callable[[Tensor, Tensor, int], list[Tensor]]:
    seen = 0

    def dying(pixels: Tensor, cells: Tensor, epoch: int) -> list[Tensor]:
        nonlocal seen
        seen += 1
        if seen > batch:
            raise Killed
        return views(pixels, cells, epoch)

    return dying


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    return simulate(tmp_path_factory.mktemp("loop") / "a.set", cells=70, size=16, jobs=1)


def run(
    cells: CellSet, out: Path, how: Callable[..., list[Tensor]] = views, dropout: float = 0.0, **settings: object
) -> Regression:
    out.mkdir(exist_ok=True)
    chosen = TrainSettings.parse(
        {"epochs": 3, "batch": 10, "lr": 0.01, "device": "cpu", "precision": "fp32", "log_steps": 2, **settings}, "x"
    )
    source = Batches([cells], chosen.batch, chosen.seed)
    monitor = Monitor(source, lambda pixels: pixels.float() / 255, 20, 0)
    method = Regression(dropout)
    fit(create_fabric(chosen), method, source, how, chosen, out, monitor=monitor)
    return method


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("batch", [3, 7, 12])
def test_a_run_cut_off_anywhere_ends_with_the_same_bits(cells: CellSet, tmp_path: Path, batch: int) -> None:
    options = {"dropout": 0.3, "momentum": 0.9, "checkpoint_minutes": 1e-6}
    whole = run(cells, tmp_path / "whole", **options)
    with pytest.raises(Killed):
        run(cells, tmp_path / "cut", killed_at(batch), **options)
    resumed = run(cells, tmp_path / "cut", **options)
    assert same(whole, resumed)
    assert resumed.steps_done == 21
    assert (tmp_path / "cut" / "history.csv").read_text() == (tmp_path / "whole" / "history.csv").read_text()
    steps = [row["step"] for row in read_history(tmp_path / "cut" / "steps.csv")]
    assert steps == [str(step) for step in range(1, 21, 2)]


def test_without_a_checkpoint_in_minutes_the_epoch_is_repeated(cells: CellSet, tmp_path: Path) -> None:
    whole = run(cells, tmp_path / "whole")
    with pytest.raises(Killed):
        run(cells, tmp_path / "cut", killed_at(12))
    assert same(whole, run(cells, tmp_path / "cut"))


def test_a_row_an_epoch_with_means_and_monitors(cells: CellSet, tmp_path: Path) -> None:
    run(cells, tmp_path / "run")
    rows = read_history(tmp_path / "run" / "history.csv")
    assert [(row["epoch"], row["step"]) for row in rows] == [("0", "7"), ("1", "14"), ("2", "21")]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert all(float(row["rankme"]) >= 1 and float(row["error"]) > 0 for row in rows)


def test_accumulated_batches_make_the_step_of_one_large_batch(cells: CellSet, tmp_path: Path) -> None:
    small = run(cells, tmp_path / "small", batch=5, accumulate=2, epochs=1)
    large = run(cells, tmp_path / "large", batch=10, epochs=1)
    assert torch.allclose(small.encoder[2].weight, large.encoder[2].weight, atol=1e-6)
    assert small.steps_done == large.steps_done == 7


def test_clipping_bounds_the_step(cells: CellSet, tmp_path: Path) -> None:
    options = {"epochs": 1, "batch": 70, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}
    start = Regression().encoder[2].weight
    clipped = run(cells, tmp_path / "clipped", clip=0.001, **options)
    assert (clipped.encoder[2].weight - start).norm() <= 0.01 * 0.001 * 1.001
    assert (run(cells, tmp_path / "free", **options).encoder[2].weight - start).norm() > 0.01 * 0.001 * 2


def test_the_global_random_state_is_left_alone(cells: CellSet, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(cells, tmp_path / "run", dropout=0.5, epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_an_epoch_shorter_than_a_step_is_refused(cells: CellSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="accumulate 8: an epoch has only 7 batches of 10; give fewer"):
        run(cells, tmp_path / "run", accumulate=8)


def test_all_processes_stop_where_the_loss_of_one_is_none(
    cells: CellSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another process adds to the mean is played by the reduction."""
    monkeypatch.setattr(Fabric, "all_reduce", lambda _, mean, **__: mean + float("nan"))
    with pytest.raises(CheckFailed, match="in epoch 1"):
        run(cells, tmp_path / "run")


def test_a_collapsed_run_stops_and_stays_stopped(cells: CellSet, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(CheckFailed, match=r"collapsed in epoch \d: feature spread 0\.0"):
            # A decay that takes the weights to nothing, where features are one point: the bias.
            run(cells, tmp_path / "run", lr=1.0, weight_decay=0.9, momentum=0.0, collapse_steps=1, schedule="constant")
