from collections.abc import Mapping

import torch
from lightly.loss import DINOLoss
from lightly.models.modules.heads import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad
from torch import Tensor, nn

from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import feature_width
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.methods.crops import run_crops, split_crops
from leukoscope.methods.teacher import TeacherSettings
from leukoscope.methods.twin import follow, momentum_twin
from leukoscope.scores.spectrum import spread
from leukoscope.training.method import Method, Progress


class DINOSettings(TeacherSettings):
    """DINO. The teacher's temperature is that of the paper on leukaemia; the rest is its authors'."""

    head_norm: bool = False
    """Batch norm in the head; the authors take it for convolutional networks trained by SGD."""


class DINO(Method):
    r"""Self-distillation with no labels (Caron et al. 2021, arXiv:2104.14294, equations 1 to 3), with multi-crop.

    A student that sees any view of a cell is to give what a teacher gives for another, global view of it. The teacher
    is the student's moving average; its outputs are centred and sharpened, so that neither can become constant.

    Args:
        backbone: ``(B, C, S, S)`` to features ``(B, num_features)``.
        settings: see :class:`DINOSettings`.
        cells: the number of cells in the training set.
        seed: seed of the head's weights.
    """

    watched = ("teacher_entropy",)
    views = (2, None)

    def __init__(self, backbone: nn.Module, settings: DINOSettings, *, cells: int, seed: int) -> None:
        super().__init__()
        self.settings = settings
        self.student, self.student_head = backbone, self._create_head(backbone, seed)
        self.encoder, self.teacher_head = momentum_twin(backbone), self._create_head(backbone, seed)
        deactivate_requires_grad(self.teacher_head)
        self.distil = DINOLoss(
            settings.outputs,
            student_temp=settings.student_temperature,
            center_momentum=settings.center_momentum,
        )

    def loss(self, views: list[Tensor], cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Cross-entropy of the student's views against the teacher's global ones; see :meth:`Method.loss`."""
        large, small = split_crops(views)
        if len(large) < 2 and not small:
            raise InputError("dino: a student's view is told by another, global view; let the policy make two views")
        with torch.no_grad():
            told = [out.float() for out in run_crops(lambda x: self.teacher_head(self.encoder(x)), large)]
        said = run_crops(lambda x: self.student_head(self.student(x)), [*large, *small])
        temperature = self.settings.temperature_at(progress)
        with torch.no_grad():
            sharpened = ((told[0] - self.distil.center[0]) / temperature).softmax(dim=1)
            numbers = {"teacher_entropy": torch.special.entr(sharpened).sum(dim=1).mean()}
        with torch.autocast(views[0].device.type, enabled=False):
            loss = self.distil(told, [out.float() for out in said], teacher_temp=temperature)
        if progress.logged:
            numbers["spread"] = spread(said[0])
        return loss, numbers

    def before_step(self, progress: Progress) -> None:
        """Hold the head's last layer for the first epochs."""
        self.student_head.cancel_last_layer_gradients(progress.epoch)

    def after_step(self, progress: Progress) -> None:
        """Move the teacher towards the student."""
        momentum = self.settings.momentum_at(progress)
        follow(self.student, self.encoder, momentum)
        follow(self.student_head, self.teacher_head, momentum)

    def _create_head(self, backbone: nn.Module, seed: int) -> DINOProjectionHead:
        """A head, twice the same: one with weight norm cannot be copied."""
        chosen = self.settings
        with seeded_weights(seed):
            return DINOProjectionHead(
                feature_width(backbone),
                chosen.hidden,
                chosen.bottleneck,
                chosen.outputs,
                batch_norm=chosen.head_norm,
                freeze_last_layer=chosen.frozen_epochs,
            )
