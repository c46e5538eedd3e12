from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from leukoscope.common.settings import Settings

_SHARDED = ("sgd", "nesterov", "adamw")


class Schedule(Settings):
    """For how long, and how the learning rate moves meanwhile; lengths in epochs may be a fraction.

    After a linear warm-up, ``cosine`` carries the rate to ``lr_end``, ``constant`` keeps it, and ``step`` multiplies it
    by ``gamma`` at each of the ``milestones``, counted from the start.
    """

    epochs: int = Field(ge=1)
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    lr_end: float = Field(default=0.0, ge=0)
    milestones: tuple[float, ...] = ()
    gamma: float = Field(default=0.1, gt=0, lt=1)
    warmup_epochs: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} must be shorter than epochs {self.epochs}")
        return self

    @model_validator(mode="after")
    def _milestones_fit(self) -> Self:
        if bool(self.milestones) != (self.schedule == "step"):
            raise ValueError("milestones and schedule step go together: give both or neither")
        ends = (0.0, *self.milestones, float(self.epochs))
        if self.milestones and any(after <= before for before, after in pairwise(ends)):
            given = ", ".join(f"{milestone:g}" for milestone in self.milestones)
            raise ValueError(f"milestones {given} must rise, above 0 and below epochs {self.epochs}")
        return self


class TrainSettings(Schedule):
    """How any method is trained. The defaults are those of MoCo v2 on one device (He et al. 2020, section 3).

    ``batch`` counts cells over all devices; with ``accumulate`` the optimiser steps once every so many batches.
    ``precision`` ``auto`` takes bf16 where the hardware multiplies it natively and fp32 elsewhere.
    """

    epochs: int = Field(default=200, ge=1)
    stop_after: int | None = Field(default=None, ge=1)
    """Epochs after which training ends, with its schedules laid out for all ``epochs``; None trains them all."""
    batch: int = Field(default=256, ge=2)
    accumulate: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    balance: bool = False
    """Draw every class equally often, over-sampling the rare ones; for methods that use labels."""

    optimiser: Literal["sgd", "nesterov", "adamw", "lars", "larc", "larc-adamw"] = "sgd"
    lr: float = Field(default=0.03, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    weight_decay_end: float | None = Field(default=None, ge=0)
    """Where a cosine carries the weight decay by the end of training (DINO takes 0.04 to 0.4); None keeps it."""
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """The rate of each layer of the encoder relative to the one above it (DINOv2: 0.9); None keeps one rate for all."""
    patch_rate: float = Field(default=1.0, gt=0)
    """The rate of a transformer's patch embedding relative to that of its layer (DINOv2: 0.2)."""
    larc_clip: bool = False
    """Whether LARC's local rate never exceeds ``lr``, as in NVIDIA's apex; VISSL, on which SwAV was built, lets it."""
    clip: float | None = Field(default=None, gt=0)
    """Largest norm of the whole gradient; None leaves it."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    recompute: bool = False
    """Activation checkpointing: the backward pass makes activations anew instead of keeping them (timm's networks)."""
    channels_last: bool = True
    device: str = "auto"
    devices: int = Field(default=1, ge=1)
    nodes: int = Field(default=1, ge=1)
    shard: bool = False
    """Share weights, gradients and the optimiser's state out over the devices (FSDP): for what no device can hold."""

    log_steps: int = Field(default=10, ge=1)
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    monitor_cells: int = Field(default=1000, ge=0)
    """Cells whose features are watched at the end of each epoch; 0 turns RankMe and the online k-NN off."""
    collapse_steps: int = Field(default=200, ge=0)
    """A run is judged collapsed no sooner than so many steps after the warm-up; 0 turns the judgement off."""

    @property
    def last_epoch(self) -> int:
        """The epochs that are trained."""
        return self.epochs if self.stop_after is None else min(self.stop_after, self.epochs)

    @model_validator(mode="after")
    def _devices_share_a_batch(self) -> Self:
        if self.batch % (self.devices * self.nodes):
            raise ValueError(f"batch {self.batch} cannot be shared evenly by {self.devices * self.nodes} devices")
        return self

    @model_validator(mode="after")
    def _lars_scales_what_it_decays(self) -> Self:
        if self.optimiser == "lars" and self.weight_decay == 0:
            raise ValueError("lars scales the rates of decayed weights alone: give weight_decay above 0, or sgd")
        return self

    @model_validator(mode="after")
    def _several_devices_shard(self) -> Self:
        if self.shard and self.devices * self.nodes == 1:
            raise ValueError("shard shares a model out over several devices; give devices")
        if self.shard and self.optimiser not in _SHARDED:
            raise ValueError(f"shard goes with {', '.join(_SHARDED)}, which treat every weight by itself")
        return self
