from typing import Literal

from pydantic import Field

from leukoscope.cells.cellset import CellSet
from leukoscope.common.settings import Settings
from leukoscope.probes.networks import create_network
from leukoscope.probes.stages import Stage, StageSettings
from leukoscope.probes.start import Start


class SupervisedSettings(Settings):
    """How a network is trained from scratch on labelled cells, as a baseline for frozen encoders: in a single stage.

    Of several learning rates the one that is best on ``inner_share`` of the training cells, held back for that
    choice, trains the network anew on all of them; one learning rate is taken as it is. ``policy`` names the views; its
    first one is made once a cell and epoch, None trains on the cells as they are. ``mean`` and ``std`` None
    take those of the CellSet.
    """

    size: int = Field(default=64, ge=8)
    epochs: int = Field(default=30, ge=1)
    batch: int = Field(default=64, ge=2)
    lr: tuple[float, ...] = Field(default=(0.001,), min_length=1)
    inner_share: float = Field(default=0.2, gt=0, lt=1)
    optimiser: Literal["sgd", "nesterov", "adamw"] = "adamw"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_epochs: float = Field(default=1.0, ge=0)
    policy: str | None = "smear-small"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def staged(self, *, seed: int, device: str) -> StageSettings:
        """The same as settings of stages."""
        stage = Stage(
            schedule="cosine",
            warmup_epochs=self.warmup_epochs if self.warmup_epochs < self.epochs else 0.0,
            **self.model_dump(include={"epochs", "lr", "optimiser", "momentum", "weight_decay"}),
        )
        return StageSettings.model_validate(
            {
                "stages": {"all": stage},
                "choose_by": "accuracy",
                "max_per_class": None,
                "seed": seed,
                "device": device,
                **self.model_dump(include={"batch", "inner_share", "policy"}),
            }
        )


def start_at_random(model: str, cellset: CellSet, n_classes: int, settings: SupervisedSettings, *, seed: int) -> Start:
    """Training that starts from the random weights of the network called ``model``, for cells like those of a CellSet.

    Raises:
        InputError: when training starts, where the network is unknown or cannot take the size.
    """
    info = cellset.info
    # A channel of one single intensity has no spread to divide by.
    std = tuple(value if value > 0 else 1.0 for value in info.std)
    return Start(
        lambda: create_network(model, channels=cellset.channels, size=settings.size, n_classes=n_classes, seed=seed),
        settings.size,
        settings.mean or info.mean,
        settings.std or std,
    )
