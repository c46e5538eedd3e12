"""Every method goes on after a cut as if nothing had been: all that it keeps travels with the checkpoint."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from leukoscope.cells.cellset import CellSet
from leukoscope.methods.pretrain import pretrain
from leukoscope.methods.pretrain_settings import PretrainSettings
from leukoscope.methods.registry import METHODS
from leukoscope.views.augment import Augment

SMALL = {
    "barlow_twins": {"hidden": 16, "dim": 8},
    "deepcluster_v2": {"prototypes": [6], "hidden": 16, "dim": 8},
    "dino": {"outputs": 16, "hidden": 16, "bottleneck": 8, "teacher_warmup_epochs": 2},
    "dinov2": {"outputs": 16, "hidden": 16, "bottleneck": 8, "teacher_warmup_epochs": 2},
    "lejepa": {"hidden": 16, "dim": 8, "slices": 16},
    "moco": {"queue": 24, "norm_groups": 2},
    "simclr": {"dim": 8, "exact": True},
    "supcon": {"dim": 8, "head_epochs": 1},
    "supervised": {"dropout": 0.3},
    "swav": {"prototypes": 6, "hidden": 16, "dim": 8, "queue": 16, "queue_from_epoch": 1, "frozen_epochs": 0.5},
    "vicreg": {"hidden": 16, "dim": 8},
}


class Cut(Exception):
    pass


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("method", sorted(METHODS))
def test_cut_off_and_called_again_it_ends_with_the_same_bits(
    few_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    settings = PretrainSettings.parse(
        {
            "method": method,
            "method_settings": SMALL[method],
            "backbone": "test_vit" if method == "dinov2" else "test_resnet",
            "size": 32,
            "policy": {"views": [{"count": 2, "rotation": {"degrees": 180}}]},
            "train": {"epochs": 3, "batch": 8, "accumulate": 2, "lr": 0.01, "device": "cpu", "monitor_cells": 0,
                      "checkpoint_minutes": 1e-6, "collapse_steps": 0},
        },
        where="test",
    )  # fmt: skip
    cells = CellSet.open(few_cells)
    whole = pretrain([cells], tmp_path / "whole", settings=settings)
    made, calls = Augment.__call__, 0

    def cut(self: Augment, pixels: Tensor, cells: Tensor, epoch: int) -> list[Tensor]:
        nonlocal calls
        calls += 1
        # Within the second epoch, and within a step; gradient caching and clustering make views more often.
        if epoch == 1 and calls % 8 == 3:
            raise Cut
        return made(self, pixels, cells, epoch)

    with monkeypatch.context() as patched:
        patched.setattr(Augment, "__call__", cut)
        with pytest.raises(Cut):
            pretrain([cells], tmp_path / "cut", settings=settings)
    resumed = pretrain([cells], tmp_path / "cut", settings=settings)
    for name in ("encoder.safetensors", "../history.csv"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name
