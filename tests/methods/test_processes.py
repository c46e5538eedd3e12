"""Two processes that share a batch learn what one learns from all of it: the same mean gradient, the same memory.

Batch norms, which are each process's own, are left out here, and so is dinov2, whose masks and KoLeo are as well.
moco, all about batch norms, has a test of two processes in test_pretrain.py.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from leukoscope.encoders.backbone import create_backbone
from leukoscope.methods.registry import METHODS
from leukoscope.training.method import Method, Progress

SIZE, CELLS, STEPS = 32, 8, 2
SMALL = {
    "barlow_twins": {"hidden": 16, "dim": 8},
    "deepcluster_v2": {"prototypes": [4], "hidden": 16, "dim": 8},
    "dino": {"outputs": 16, "hidden": 16, "bottleneck": 8, "frozen_epochs": 0},
    "lejepa": {"hidden": 16, "dim": 8, "slices": 64},
    "simclr": {"dim": 8},
    "supcon": {"dim": 8, "head_epochs": 0, "dropout": 0},
    "supervised": {},
    "swav": {"prototypes": 6, "hidden": 16, "dim": 8, "queue": 8, "queue_from_epoch": 0, "frozen_epochs": 0},
    "vicreg": {"hidden": 16, "dim": 8},
}


def progress(step: int) -> Progress:
    return Progress(seed=0, step=step, steps=STEPS, epoch=step, per_epoch=1)


def views(step: int) -> list[Tensor]:
    drawn = torch.Generator().manual_seed(step)
    return [torch.randn(CELLS, 1, SIZE, SIZE, generator=drawn) for _ in range(2)]


def method(name: str) -> Method:
    kind = METHODS[name]
    more = {"labels": torch.arange(CELLS) % 3} if kind.method.uses_labels else {}
    backbone = create_backbone("test_vit", channels=1, seed=0, size=SIZE)
    made = kind.method(backbone, kind.settings.parse(SMALL[name], "test"), cells=CELLS, seed=0, **more)
    for part in list(made.modules()):
        for key, child in part.named_children():
            if isinstance(child, nn.BatchNorm1d):
                setattr(part, key, nn.LayerNorm(child.num_features))
    return made


def learned(name: str, rank: int, world: int) -> dict[str, Tensor]:
    """Mean gradients of two steps, and the buffers after them, as a process sees them; no weights move but twins'."""
    made = method(name)
    parameters = {key: value for key, value in made.named_parameters() if value.requires_grad}
    mine = slice(rank * CELLS // world, (rank + 1) * CELLS // world)
    found = {}
    for step in range(STEPS):
        torch.manual_seed(step)
        shown = [view[mine] for view in views(step)]
        cells = torch.arange(CELLS)[mine]
        with torch.no_grad():
            made.start_epoch(lambda shown=shown, cells=cells: iter([(shown, cells)]), progress(step))
        made.zero_grad()
        made.loss(shown, cells, progress(step))[0].backward()
        for key, value in parameters.items():
            if value.grad is None:
                continue
            if world > 1:
                dist.all_reduce(value.grad)
            found[f"step {step}: {key}"] = value.grad / world
        made.after_step(progress(step))
    # The pointer of lightly's memory bank is never set where the bank is off.
    return found | {f"buffer {key}": value.clone() for key, value in made.named_buffers() if "bank" not in key}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {name: learned(name, rank, 2) for name in SMALL}
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("pair")
    started = [subprocess.Popen([sys.executable, __file__, str(rank), str(folder)]) for rank in range(2)]
    try:
        assert [process.wait(timeout=300) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_every_method_is_tried() -> None:
    assert SMALL.keys() | {"dinov2", "moco"} == METHODS.keys()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_two_processes_learn_as_one(pair: list[dict[str, dict[str, Tensor]]], name: str) -> None:
    alone = learned(name, 0, 1)
    assert any(key.startswith("step") and value.abs().max() > 1e-3 for key, value in alone.items())
    for other in pair:
        assert other[name].keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(
                other[name][key], value, rtol=1e-3, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}"
            )


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
