import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukoscope.methods.supervised import Supervised, SupervisedSettings
from leukoscope.training.method import Progress

START = Progress(seed=0, step=0, steps=10, epoch=0)


class Flat(nn.Module):
    num_features = 12

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def test_every_view_is_to_be_told_as_its_cells_class() -> None:
    labels = torch.tensor([2, 0, 1, 1, 0])
    ours = Supervised(Flat(), SupervisedSettings(label_smoothing=0.1), cells=5, seed=0, labels=labels)
    views, cells = [torch.randn(3, 1, 3, 4) for _ in range(2)], torch.tensor([4, 0, 2])
    loss, numbers = ours.loss(views, cells, START)
    logits = ours.classifier(torch.cat([view.flatten(1) for view in views]))
    classes = torch.tensor([0, 2, 1, 0, 2, 1])
    assert torch.allclose(loss, F.cross_entropy(logits, classes, label_smoothing=0.1))
    assert numbers["top1"] == pytest.approx((logits.argmax(1) == classes).float().mean().item())
    assert ours.chance_loss() == pytest.approx(math.log(3))
