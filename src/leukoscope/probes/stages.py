from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from leukoscope.common.settings import Settings
from leukoscope.training.settings import Schedule, TrainSettings
from leukoscope.views.policy import Policy


class Stage(Schedule):
    """A stretch of training: what learns, for how long, how fast.

    Of several learning rates one is chosen on validation cells. With ``patience`` a stage ends when the validation loss
    has not fallen for so many epochs, and goes back to the weights of the epoch at which it was least.
    """

    trains: Literal["head", "all"] = "all"
    """While the ``head`` alone learns, nothing of the encoder changes, nor do its batch norms' running statistics."""
    lr: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    schedule: Literal["cosine", "constant", "step"] = "constant"
    optimiser: Literal["sgd", "nesterov", "adamw"] = "adamw"
    """``adamw`` without weight decay is Adam."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """The rate of each layer of the encoder relative to the one above it; None keeps one rate for all."""
    hold_norms: bool = False
    """Whether batch norms keep their running statistics while everything learns, too."""
    patience: int | None = Field(default=None, ge=1)

    @field_validator("lr", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)

    def training(self, lr: float, batch: int, seed: int) -> TrainSettings:
        """The same for the optimisers and schedules of pre-training."""
        shared = self.model_dump(include=TrainSettings.model_fields.keys() - {"lr"})
        return TrainSettings(lr=lr, batch=batch, seed=seed, **shared)


class StageSettings(Settings):
    """How a network is trained on labelled cells, stage after stage.

    ``inner_share`` of the training cells are held back wherever something is chosen: a learning rate (by ``choose_by``)
    or the epoch at which a stage ends. What was chosen trains the network anew on all of them; there is no loss to
    watch then, so each stage takes the epochs that were found, along the schedule of the whole stage.
    """

    stages: dict[str, Stage] = Field(min_length=1)
    batch: int = Field(default=25, ge=2)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Before the head."""
    policy: Policy | None = None
    """Views: of its first kind one is made of a cell in an epoch; None trains on the cells as they are."""
    max_per_class: int | None = Field(default=5000, ge=1)
    """Training cells of a class, drawn by the seed where there are more; None takes all."""
    inner_share: float = Field(default=0.2, gt=0, lt=1)
    choose_by: Literal["log_loss", "accuracy"] = "log_loss"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = Field(default=0, ge=0)
    device: str = "auto"

    @field_validator("policy", mode="before")
    @classmethod
    def _load_policy(cls, value: Any) -> Any:
        return Policy.load(value) if isinstance(value, str | Path) else value

    @property
    def rates(self) -> list[tuple[float, ...]]:
        """The combinations of learning rates to choose from, one rate a stage."""
        return list(product(*(stage.lr for stage in self.stages.values())))

    @property
    def chooses(self) -> bool:
        """Whether something is chosen on validation cells."""
        return len(self.rates) > 1 or self.stops_early

    @property
    def stops_early(self) -> bool:
        """Whether the validation loss may end a stage."""
        return any(stage.patience for stage in self.stages.values())

    @property
    def trains_encoder(self) -> bool:
        """Whether any stage changes more than the head."""
        return any(stage.trains == "all" for stage in self.stages.values())
