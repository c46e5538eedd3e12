"""Two processes that hold half of a method each learn what one learns that holds it all, and go on after a kill."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.distributed.tensor import DTensor

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import create_backbone
from leukoscope.methods.dinov2 import DINOv2, DINOv2Settings
from leukoscope.training.loop import fit
from leukoscope.training.monitors import Monitor
from leukoscope.training.precision import create_fabric
from leukoscope.training.settings import TrainSettings
from leukoscope.training.sharding import gathered, whole
from leukoscope.training.source import Batches

SIZE, EPOCHS = 32, 2


class Killed(Exception):
    pass


def settings(**more: object) -> TrainSettings:
    given = {"epochs": EPOCHS, "batch": 8, "accumulate": 2, "optimiser": "adamw", "lr": 1e-3, "clip": 1.0, **more}
    return TrainSettings(**given, device="cpu", precision="fp32", checkpoint_minutes=1e-6, collapse_steps=0)


def method() -> DINOv2:
    """Without masks and KoLeo, which are each process's own: the class loss and its teacher are left."""
    chosen = DINOv2Settings(
        outputs=16, hidden=16, bottleneck=8, frozen_epochs=0, masked_images=0.0, koleo_weight=0.0, patch_weight=0.0
    )
    return DINOv2(create_backbone("test_vit", channels=1, seed=0, size=SIZE), chosen, cells=32, seed=0)


def train(fabric: Fabric, cells: Path, out: Path, chosen: TrainSettings, *, kill_at: int = 10**6) -> dict[str, Tensor]:
    source = Batches([CellSet.open(cells)], chosen.batch, 0, rank=fabric.global_rank, world=fabric.world_size)
    batches = 0

    def views(pixels: Tensor, cells: Tensor, epoch: int) -> list[Tensor]:
        nonlocal batches
        batches += 1
        if batches > kill_at:
            raise Killed
        x = pixels.float() / 255
        return [x, x.flip(-1) + 0.01 * epoch]

    made = method()
    monitor = Monitor(source, lambda x: x.float() / 255, 16, 0)
    numbers = fit(fabric, made, source, views, chosen, out, monitor=monitor)
    state = gathered(made.state_dict())
    held = sum(value.to_local().numel() for value in made.parameters() if isinstance(value, DTensor))
    (out / f"held-{fabric.global_rank}.txt").write_text(str(held))
    with whole(made), torch.no_grad():
        shown = made.online()(torch.ones(2, 1, SIZE, SIZE))
    return {**state, "shown": shown, "rankme": torch.tensor(numbers["rankme"]), "loss": torch.tensor(numbers["loss"])}


def work(folder: Path) -> None:
    torch.set_num_threads(1)
    fabric = create_fabric(settings(devices=2, shard=True))
    fabric.launch()
    chosen = settings(devices=2, shard=True)
    torch.save(train(fabric, folder / "cells.set", folder / "whole", chosen), folder / f"whole-{fabric.global_rank}.pt")
    # In the midst of an epoch: four batches make two steps, the fifth is begun.
    with pytest.raises(Killed):
        train(fabric, folder / "cells.set", folder / "resumed", chosen, kill_at=5)
    fabric.barrier()
    found = train(fabric, folder / "cells.set", folder / "resumed", chosen)
    torch.save(found, folder / f"resumed-{fabric.global_rank}.pt")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    simulate(folder / "cells.set", cells=48, size=SIZE, bit_depth=8, seed=0, jobs=1)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, __file__, str(folder)], env=environment, check=True, timeout=300)
    return folder


def test_two_processes_that_share_a_method_out_learn_as_one(pair: Path) -> None:
    alone = train(create_fabric(settings()), pair / "cells.set", pair / "alone", settings())
    start = method().state_dict()
    assert max(float((alone[name] - value).abs().max()) for name, value in start.items()) > 1e-3
    for rank in range(2):
        found = torch.load(pair / f"whole-{rank}.pt", weights_only=True)
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(
                found[name], value, rtol=1e-3, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
            )


def test_a_shared_run_goes_on_from_its_checkpoint(pair: Path) -> None:
    whole, resumed = (torch.load(pair / f"{name}-0.pt", weights_only=True) for name in ("whole", "resumed"))
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-5, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_each_process_holds_about_half_of_the_weights(pair: Path) -> None:
    held = [int((pair / "whole" / f"held-{rank}.txt").read_text()) for rank in range(2)]
    total = sum(value.numel() for value in method().parameters())
    assert sum(held) == total
    assert max(held) < 0.6 * total


def test_what_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ValueError, match="shares a model out over several devices"):
        settings(shard=True)
    with pytest.raises(ValueError, match="shard goes with sgd, nesterov, adamw"):
        settings(shard=True, devices=2, optimiser="lars")
    half = TrainSettings(**{**settings(shard=True, devices=2).model_dump(), "precision": "fp16"})
    with pytest.raises(InputError, match="fp16"):
        create_fabric(half)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
