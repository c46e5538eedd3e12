import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric
from lightning.fabric.wrappers import _FabricOptimizer
from torch import Tensor

from leukoscope.common.errors import InputError
from leukoscope.common.runs import log
from leukoscope.training.checkpoint import load_checkpoint, save_checkpoint
from leukoscope.training.history import History
from leukoscope.training.method import Method, Progress
from leukoscope.training.monitors import COLUMNS
from leukoscope.training.settings import TrainSettings
from leukoscope.training.sharding import restore, states
from leukoscope.training.source import Batches


class Run:
    """What the loop keeps besides the networks: its place, its sums, its files. Opening it restores the checkpoint."""

    def __init__(
        self,
        fabric: Fabric,
        method: Method,
        optimiser: _FabricOptimizer,
        source: Batches,
        settings: TrainSettings,
        out: Path,
    ) -> None:
        self.fabric, self.method, self.optimiser, self.settings = fabric, method, optimiser.optimizer, settings
        self.path = out / "checkpoint.pt"
        self.per_epoch = source.per_epoch // settings.accumulate
        if self.per_epoch == 0:
            raise InputError(
                f"accumulate {settings.accumulate}: an epoch has only {source.per_epoch} batches of {settings.batch}; "
                "give fewer"
            )
        self.steps = self.per_epoch * settings.epochs
        self.end = self.per_epoch * settings.last_epoch
        self.images_a_step = settings.batch * settings.accumulate
        self.step = 0
        self.sums: dict[str, Tensor] = {}
        self.batches = 0
        self.numbers: dict[str, float] = {}
        self._restore()
        self._saved = self._began = time.monotonic()
        self._images = 0
        if fabric.is_global_zero:
            watched = ("loss", *method.watched)
            epoch = self.step // self.per_epoch
            self.history = History(out / "history.csv", "epoch", ("step", "lr", *watched, *COLUMNS), epoch)
            columns = ("epoch", "lr", *watched, "spread", "images_per_s")
            self.log = History(out / "steps.csv", "step", columns, self.step)

    @property
    def images_left(self) -> int:
        """Images still to be seen."""
        return (self.end - self.step) * self.images_a_step

    def progress(self, epoch: int) -> Progress:
        """Where the run stands before this step."""
        logged = (self.step + 1) % self.settings.log_steps == 0
        return Progress(self.settings.seed, self.step, self.steps, epoch, self.per_epoch, logged=logged)

    def count(self, loss: Tensor, numbers: Mapping[str, Tensor]) -> None:
        """Add a batch to the epoch's sums, on the device, without waiting for it."""
        every = {"loss": loss.detach(), **{key: numbers[key] for key in self.method.watched}}
        self.sums = {key: self.sums[key] + value if key in self.sums else value for key, value in every.items()}
        self.batches += 1

    def end_step(self, lr: float, loss: Tensor, numbers: Mapping[str, Tensor], progress: Progress) -> str:
        """Count the step, log it where it is due, save where minutes have passed; returns a note for the bar."""
        self.step += 1
        self._images += self.images_a_step
        if progress.logged and self.fabric.is_global_zero:
            rate = self._images / (time.monotonic() - self._began)
            row = {key: value.item() for key, value in {"loss": loss, **numbers}.items()}
            self.log.add({"step": progress.step, "epoch": progress.epoch, "lr": lr, "images_per_s": rate, **row})
            self._note = "  ".join(f"{key} {row[key]:.3f}" for key in ("loss", *self.method.watched))
        # The last step of an epoch is saved after the epoch's row.
        due = time.monotonic() - self._saved > 60 * self.settings.checkpoint_minutes
        if due and self.step % self.per_epoch:
            self.save()
        return self._note

    def end_epoch(self, epoch: int, lr: float, measured: Mapping[str, float]) -> None:
        """Write the epoch's row."""
        means = {key: self.fabric.all_reduce(value / self.batches) for key, value in self.sums.items()}
        numbers = {**{key: float(value) for key, value in means.items()}, **measured}
        # Every process goes on with the numbers of the first, so that all come to the same verdict.
        self.numbers = dict(self.fabric.broadcast(numbers))
        self.sums, self.batches = {}, 0
        told = ", ".join(f"{key} {value:.4g}" for key, value in self.numbers.items())
        if self.fabric.is_global_zero:
            self.history.add({"epoch": epoch, "step": self.step, "lr": lr, **self.numbers})
            log.info(f"epoch {epoch + 1}/{self.settings.last_epoch}: {told}")

    def save(self) -> None:
        """Write a checkpoint."""
        self._saved = time.monotonic()
        method, optimiser = states(self.method, self.optimiser)
        if not self.fabric.is_global_zero:
            return
        state = {
            "step": self.step,
            "sums": self.sums,
            "batches": self.batches,
            "numbers": self.numbers,
            "method": method,
            "optimiser": optimiser,
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        save_checkpoint(self.path, state)

    def _restore(self) -> None:
        self._note = ""
        state: dict[str, Any] | None = load_checkpoint(self.path)
        if state is None:
            return
        restore(self.method, self.optimiser, state["method"], state["optimiser"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.step, self.batches, self.numbers = state["step"], state["batches"], state["numbers"]
        self.sums = {key: self.fabric.to_device(value) for key, value in state["sums"].items()}
        log.info(f"going on at step {self.step} of {self.end}")
