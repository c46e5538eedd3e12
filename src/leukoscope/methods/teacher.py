from lightly.utils.scheduler import cosine_schedule
from pydantic import Field

from leukoscope.common.settings import Settings
from leukoscope.training.method import Progress


class TeacherSettings(Settings):
    """What DINO and DINOv2 share: the head, and a teacher that follows the student. The defaults are DINO's.

    The teacher's temperature is that of the paper on leukaemia; the rest is the authors'.
    """

    outputs: int = Field(default=65_536, ge=2)
    hidden: int = Field(default=2048, ge=1)
    bottleneck: int = Field(default=256, ge=1)
    student_temperature: float = Field(default=0.1, gt=0)
    teacher_temperature: float = Field(default=0.07, gt=0)
    teacher_temperature_start: float = Field(default=0.04, gt=0)
    teacher_warmup_epochs: float = Field(default=30.0, ge=0)
    """Epochs in which the teacher's temperature rises, linearly."""
    momentum: float = Field(default=0.996, ge=0, le=1)
    momentum_end: float = Field(default=1.0, ge=0, le=1)
    center_momentum: float = Field(default=0.9, ge=0, le=1)
    frozen_epochs: int = Field(default=1, ge=0)
    """Epochs in which the head's last layer is held."""

    def temperature_at(self, progress: Progress) -> float:
        """The teacher's temperature at this step."""
        start, end = self.teacher_temperature_start, self.teacher_temperature
        rising = self.teacher_warmup_epochs * progress.per_epoch
        return start + (end - start) * min(1.0, progress.step / rising) if rising else end

    def momentum_at(self, progress: Progress) -> float:
        """The momentum of the teacher at this step, along a cosine."""
        return float(cosine_schedule(progress.step, progress.steps, self.momentum, self.momentum_end))
