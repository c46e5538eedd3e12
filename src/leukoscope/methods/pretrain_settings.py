from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from leukoscope.common.settings import Settings
from leukoscope.methods.registry import entry
from leukoscope.training.settings import TrainSettings
from leukoscope.views.policy import Policy


class PretrainSettings(Settings):
    """Everything that decides what ``pretrain`` makes of its cells."""

    method: str = "moco"
    method_settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the method, such as ``temperature`` of MoCo; those left out take the method's defaults."""
    label: str = "label"
    """The column of the class, for methods that use labels."""
    backbone: str = "resnet18"
    weights: str = "random"
    truncate_after: int | None = Field(default=None, ge=1)
    """The stage after which the backbone ends; None trains the whole network."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """How often the last residual branch is dropped in training, those before it less often; twins drop none."""
    size: int = Field(default=224, ge=8)
    policy: Policy = Field(default="ifc", validate_default=True)
    """The name of a policy that comes with Leukoscope, a YAML file of one's own, or the policy itself."""
    normalise: Literal["half", "set"] = "half"
    """``half`` takes mean and std 0.5, as the paper on imaging flow cytometry; ``set`` those of the cells."""
    set_weights: tuple[float, ...] | None = None
    """How often each CellSet is drawn, relative to each other; None takes every cell once an epoch."""
    keep_every: int | None = Field(default=None, ge=1)
    """Keep the encoder every so many epochs, in ``OUT/epochs/N``: scores may peak before the end."""
    train: TrainSettings = TrainSettings()

    @field_validator("policy", mode="before")
    @classmethod
    def _load_policy(cls, value: Any) -> Any:
        return Policy.load(value) if isinstance(value, str | Path) else value

    @model_validator(mode="before")
    @classmethod
    def _whole_method_settings(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        name = data.get("method", "moco")
        whole = entry(name).settings.parse(data.get("method_settings") or {}, where="method_settings")
        return {**data, "method_settings": whole.model_dump(mode="json")}

    @model_validator(mode="after")
    def _as_many_views_as_the_method_takes(self) -> "PretrainSettings":
        least, most = entry(self.method).method.views
        if not least <= self.policy.count <= (most or self.policy.count):
            takes = least if least == most else f"{least} to {most}" if most else f"{least} or more"
            raise ValueError(f"policy makes {self.policy.count} views a cell, and {self.method} takes {takes}")
        return self
