import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from leukoscope.common.settings import Settings
from leukoscope.encoders.backbone import feature_width
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.scores.spectrum import spread
from leukoscope.training.method import Method, Progress


class SupervisedSettings(Settings):
    """Supervised pre-training: a linear classifier on the encoder."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class Supervised(Method):
    """Cross-entropy against the labels of another task (aml-ssl-mil, section 4.2). It uses labels.

    The paper over-samples rare classes (``train: {balance: true}``) and erases rectangles (``erase`` in the policy).

    Args:
        backbone: ``(B, C, S, S)`` to features ``(B, num_features)``.
        settings: see :class:`SupervisedSettings`.
        cells: the number of cells in the training set.
        seed: seed of the classifier's weights.
        labels: the class of every cell, int64 ``(cells,)``.
    """

    watched = ("top1",)
    uses_labels = True
    labels: Tensor

    def __init__(
        self, backbone: nn.Module, settings: SupervisedSettings, *, cells: int, seed: int, labels: Tensor
    ) -> None:
        super().__init__()
        self.encoder, self.smoothing = backbone, settings.label_smoothing
        self.classes = int(labels.max()) + 1
        with seeded_weights(seed):
            self.classifier = nn.Sequential(
                nn.Dropout(settings.dropout),
                nn.Linear(feature_width(backbone), self.classes),
            )
        self.register_buffer("labels", labels, persistent=False)

    def loss(self, views: list[Tensor], cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Cross-entropy of every view; see :meth:`Method.loss`."""
        classes = self.labels[cells]
        features = [self.encoder(view) for view in views]
        logits = [self.classifier(each).float() for each in features]
        loss = torch.stack([F.cross_entropy(each, classes, label_smoothing=self.smoothing) for each in logits]).mean()
        numbers = {"top1": torch.stack([(each.argmax(dim=1) == classes).float().mean() for each in logits]).mean()}
        if progress.logged:
            numbers["spread"] = spread(features[0])
        return loss, numbers

    def chance_loss(self) -> float:
        """``ln K``: every class is as likely as any other."""
        return math.log(self.classes)
