"""A seconds-long test that a broken method fails: each on tiny cells, judged by k-NN on frozen features."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.labels import labels_of
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.methods.moco import MoCo
from leukoscope.methods.pretrain import pretrain
from leukoscope.methods.pretrain_settings import PretrainSettings
from leukoscope.methods.registry import METHODS
from leukoscope.training.monitors import Monitor
from leukoscope.training.source import Batches

CHANCE = 1 / 3
VIEWS = {
    "count": 2,
    "rotation": {"degrees": 180},
    "flip": {"horizontal": 0.5},
    "shift": {"share": 0.05},
    "zoom": {"field": [0.8, 1.05]},
    "brightness": {"factor": [0.75, 1.25]},
    "contrast": {"factor": [0.8, 1.2]},
}
SMALL: dict[str, dict[str, Any]] = {
    "barlow_twins": {"hidden": 128, "dim": 128},
    "deepcluster_v2": {"prototypes": [32], "hidden": 128, "dim": 32},
    "dino": {"outputs": 128, "hidden": 128, "bottleneck": 32, "momentum": 0.98, "teacher_warmup_epochs": 2},
    "lejepa": {"hidden": 128, "dim": 16, "slices": 256},
    # Spread counts for more where a few hundred cells are all there is.
    "dinov2": {
        "outputs": 128,
        "hidden": 128,
        "bottleneck": 32,
        "momentum": 0.98,
        "teacher_warmup_epochs": 2,
        "koleo_weight": 1.0,
    },
    # A short queue and a fast twin: within a hundred steps older keys would be told by their age alone.
    "moco": {"queue": 64, "temperature": 0.2, "momentum": 0.98, "norm_groups": 4},
    "simclr": {"temperature": 0.2, "dim": 32},
    "supcon": {"dim": 32, "head_epochs": 1, "head_rate": 1},
    "supervised": {},
    "swav": {"prototypes": 32, "hidden": 128, "dim": 32},
    "vicreg": {"hidden": 128, "dim": 128},
}


RATE = {"dinov2": {"lr": 0.001}}
EPOCHS = {"lejepa": 5, "simclr": 5, "vicreg": 5, "dinov2": 15}
# A transformer of three by three patches, which begins at 0.44 where the small ResNet begins at 0.66.
TRANSFORMER = {"backbone": "test_vit", "size": 48}


def trained(cells: CellSet, out: Path, method: str, **train: object) -> Encoder:
    settings = {
        "method": method,
        "method_settings": SMALL[method],
        "backbone": "test_resnet",
        "size": 40,
        "normalise": "set",
        "policy": {"views": [VIEWS]},
        "train": {"batch": 32, "optimiser": "adamw", "lr": 0.003, "warmup_epochs": 1, "device": "cpu", **train},
    }
    if method == "dinov2":
        settings |= TRANSFORMER
    return Encoder.load(pretrain([cells], out, settings=PretrainSettings.parse(settings, where="test")))


def neighbours(encoder: Encoder, cells: CellSet) -> float:
    monitor = Monitor(Batches([cells], 60, 0), encoder.prepare, len(cells), 0, labels_of(cells))
    return monitor.measure(encoder.backbone, torch.device("cpu"))["knn"]


@pytest.mark.parametrize("method", sorted(name for name, entry in METHODS.items() if not entry.method.uses_labels))
def test_it_learns_kinds_it_was_never_told(three_kinds: CellSet, tmp_path: Path, method: str) -> None:
    encoder = trained(three_kinds, tmp_path / "run", method, epochs=EPOCHS.get(method, 9), **RATE.get(method, {}))
    learned = neighbours(encoder, three_kinds)
    untrained = random_encoder(encoder.info.timm_name, three_kinds, encoder.info.size)
    assert learned > CHANCE + (0.2 if method == "dinov2" else 0.3)
    assert learned > neighbours(untrained, three_kinds) + 0.1


@pytest.mark.parametrize("method", sorted(name for name, entry in METHODS.items() if entry.method.uses_labels))
def test_it_learns_kinds_it_was_told_on_other_cells(three_kinds: CellSet, tmp_path: Path, method: str) -> None:
    told, other = three_kinds.select(np.arange(0, 480, 2)), three_kinds.select(np.arange(1, 480, 2))
    learned = neighbours(trained(told, tmp_path / "run", method, epochs=6), other)
    assert learned > CHANCE + 0.3
    assert learned > neighbours(random_encoder("test_resnet", other, 40), other) + 0.1


def test_a_method_without_a_gradient_learns_nothing(
    three_kinds: CellSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights stay random and batch norm alone adapts: what the test above must not mistake for learning."""
    whole = MoCo.loss

    def broken(self: MoCo, *args: object) -> tuple[Tensor, dict[str, Tensor]]:
        loss, numbers = whole(self, *args)
        return 0 * loss, numbers

    monkeypatch.setattr(MoCo, "loss", broken)
    unlearned = neighbours(trained(three_kinds, tmp_path / "still", "moco", epochs=2, weight_decay=0.0), three_kinds)
    assert unlearned < neighbours(random_encoder("test_resnet", three_kinds, 40), three_kinds) + 0.05
