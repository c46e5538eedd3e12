"""A seconds-long test that a broken method fails: MoCo on tiny cells, judged by k-NN on frozen features."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.labels import labels_of
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.methods.moco import MoCo
from leukoscope.methods.pretrain import PretrainSettings, pretrain
from leukoscope.training.monitors import Monitor
from leukoscope.training.source import Batches

CHANCE = 1 / 3
SETTINGS = PretrainSettings.parse(
    {
        "backbone": "test_resnet",
        "size": 40,
        "normalise": "set",
        "policy": {
            "views": [
                {
                    "count": 2,
                    "rotation": {"degrees": 180},
                    "flip": {"horizontal": 0.5},
                    "shift": {"share": 0.05},
                    "zoom": {"field": [0.8, 1.05]},
                    "brightness": {"factor": [0.75, 1.25]},
                    "contrast": {"factor": [0.8, 1.2]},
                }
            ]
        },
        # A short queue and a fast twin: within a hundred steps older keys would be told by their age alone.
        "method_settings": {"queue": 64, "temperature": 0.2, "momentum": 0.98, "norm_groups": 4},
        "train": {"epochs": 9, "batch": 32, "optimiser": "adamw", "lr": 0.003, "warmup_epochs": 1, "device": "cpu"},
    },
    where="test",
)


def neighbours(encoder: Encoder, cells: CellSet) -> float:
    monitor = Monitor(Batches([cells], 60, 0), encoder.prepare, len(cells), 0, labels_of(cells))
    return monitor.measure(encoder.backbone, torch.device("cpu"))["knn"]


def test_moco_learns_kinds_it_was_never_told(
    three_kinds: CellSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = neighbours(Encoder.load(pretrain([three_kinds], tmp_path / "run", settings=SETTINGS)), three_kinds)
    assert learned > CHANCE + 0.3
    assert learned > neighbours(random_encoder("test_resnet", three_kinds, 40), three_kinds) + 0.1

    whole = MoCo.loss

    def broken(self: MoCo, *args: object) -> tuple[Tensor, dict[str, Tensor]]:
        loss, numbers = whole(self, *args)
        return 0 * loss, numbers

    # Without a gradient the weights stay random; batch norm alone still adapts, and neighbours profit from that.
    monkeypatch.setattr(MoCo, "loss", broken)
    still = SETTINGS.model_copy(update={"train": SETTINGS.train.model_copy(update={"epochs": 2, "weight_decay": 0.0})})
    unlearned = neighbours(Encoder.load(pretrain([three_kinds], tmp_path / "still", settings=still)), three_kinds)
    assert learned > unlearned + 0.1
