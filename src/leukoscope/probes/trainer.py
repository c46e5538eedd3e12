from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leukoscope.cells.cellset import CellSet
from leukoscope.encoders.device import autocast, pick_device
from leukoscope.encoders.seeding import seeded_draws
from leukoscope.probes.best import Best
from leukoscope.probes.encoder_head import set_learning
from leukoscope.probes.selection import validation_scores
from leukoscope.probes.stages import Stage, StageSettings
from leukoscope.probes.start import Start
from leukoscope.training.monitors import refuse_divergence
from leukoscope.training.optimisers import create_optimiser
from leukoscope.training.schedules import schedule
from leukoscope.training.settings import TrainSettings
from leukoscope.training.source import Batches
from leukoscope.views.augment import Augment
from leukoscope.views.policy import Policy
from leukoscope.views.preprocess import Preprocess

_PREDICTED = 256

Told = dict[str, float | int | str]
"""What an epoch was like: ``stage, epoch, lr, loss, accuracy``, and ``validation_...`` where cells were watched."""


@dataclass(frozen=True)
class Plan:
    """What is chosen for a training: the learning rate of each stage, and after how many epochs it ends."""

    rates: tuple[float, ...]
    epochs: tuple[int, ...]

    def __str__(self) -> str:
        """As a person reads it in a log."""
        rates = " then ".join(f"{rate:g}" for rate in self.rates)
        return f"lr {rates}, epochs {' then '.join(map(str, self.epochs))}"

    @classmethod
    def whole(cls, settings: StageSettings, rates: tuple[float, ...]) -> "Plan":
        """Every stage to its end."""
        return cls(rates, tuple(stage.epochs for stage in settings.stages.values()))


@dataclass(frozen=True)
class Trainer:
    """Trains the network of ``start`` on rows of a CellSet; ``truth`` ``(N,)`` holds the class index of every row.

    The same rows, plan and settings give the same weights on the same machine. ``tell`` hears of every epoch.
    """

    start: Start
    cellset: CellSet
    truth: Tensor
    settings: StageSettings
    tell: Callable[[Told], None] | None = None

    def fit(self, rows: np.ndarray, plan: Plan, *, watch: np.ndarray | None = None) -> tuple[nn.Module, Plan]:
        """Train on ``rows``; stages with patience end early by the loss on the rows ``watch``, where these are given.

        Returns:
            The network, and the plan with the epochs after which the weights of each stage were taken.

        Raises:
            CheckFailed: when the loss diverges.
        """
        network = self.start.build().to(self.device).to(memory_format=torch.channels_last)
        cells = self.cellset.select(rows)
        batches = Batches([cells], min(self.settings.batch, len(cells)), self.settings.seed)
        ended, first = [], 0
        for (name, stage), rate, epochs in zip(self.settings.stages.items(), plan.rates, plan.epochs, strict=True):
            course = _Course(self, network, stage, rate, batches, self.truth[rows], first)
            ended.append(self._follow(course, name, epochs, watch))
            # An early end does not shift what follows: the order and the views of an epoch hang on its number.
            first += stage.epochs
        return network, Plan(plan.rates, tuple(ended))

    @torch.no_grad()
    def predict(self, network: nn.Module, rows: np.ndarray) -> np.ndarray:
        """Probabilities ``(n, K)`` of the cells at ``rows``, as they are."""
        network.eval()
        found = []
        for part in np.array_split(rows, max(1, -(-len(rows) // _PREDICTED))):
            images = self.prepare(torch.from_numpy(self.cellset.read(part)).to(self.device))
            found.append(self.logits(network, images).softmax(dim=1).cpu().numpy())
        probabilities: np.ndarray = np.concatenate(found)
        return probabilities

    def scores(self, probabilities: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
        """Mean log loss and accuracy of ``probabilities`` ``(n, K)`` of the cells at ``rows``."""
        return validation_scores(torch.from_numpy(probabilities), self.truth[rows])

    def logits(self, network: nn.Module, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` float32 of prepared images."""
        with autocast(self.device, self.settings.precision, trained=network):
            logits: Tensor = network(images.to(memory_format=torch.channels_last))
        return logits.float()

    @cached_property
    def device(self) -> torch.device:
        """Where networks are trained."""
        return pick_device(self.settings.device)

    @cached_property
    def prepare(self) -> Preprocess:
        """What networks see of a cell as it is."""
        start = self.start
        return Preprocess(start.size, self.cellset.info.intensity, start.mean, start.std).to(self.device)

    @cached_property
    def view(self) -> Augment | None:
        """What makes the view of a cell that networks are trained on; None where they see the cell as it is."""
        if self.settings.policy is None:
            return None
        first = self.settings.policy.views[0].model_copy(update={"count": 1, "share": 1.0})
        return Augment(Policy(views=(first,)), self.start.size, self.cellset.info.intensity, self.settings.seed)

    def _follow(self, course: "_Course", name: str, epochs: int, watch: np.ndarray | None) -> int:
        """Train through a stage; returns the number of the epoch whose weights were taken."""
        best = Best(course.stage.patience if watch is not None else None)
        for epoch in range(epochs):
            told: Told = {"stage": name, "epoch": course.first + epoch + 1, **course.train(epoch)}
            if watch is not None:
                loss, accuracy = self.scores(self.predict(course.network, watch), watch)
                told |= {"validation_loss": loss, "validation_accuracy": accuracy}
                best.see(loss, course.network)
            if self.tell is not None:
                self.tell(told)
            if best.ended:
                break
        return best.restore(course.network) or epochs


class _Course:
    """A stage under way; ``first`` is the number of its first epoch among those of all stages."""

    def __init__(
        self,
        trainer: Trainer,
        network: nn.Module,
        stage: Stage,
        rate: float,
        batches: Batches,
        classes: Tensor,
        first: int,
    ) -> None:
        self.trainer, self.network, self.stage, self.first = trainer, network, stage, first
        self.batches, self.classes = batches, classes
        self.training: TrainSettings = stage.training(rate, trainer.settings.batch, trainer.settings.seed)
        set_learning(network, stage)
        self.optimiser = create_optimiser(network, self.training)

    def train(self, epoch: int) -> Told:
        """Train for the stage's epoch number ``epoch``; returns its last learning rate, mean loss and accuracy."""
        trainer, device, per_epoch = self.trainer, self.trainer.device, self.batches.per_epoch
        set_learning(self.network, self.stage)
        losses, hits, lr = torch.zeros((), device=device), torch.zeros((), device=device), 0.0
        for step, batch in enumerate(self.batches.epoch(self.first + epoch), start=epoch * per_epoch):
            lr = schedule(self.optimiser, self.training, step, self.training.epochs * per_epoch)
            pixels, classes = batch.pixels.to(device), self.classes[batch.cells].to(device)
            view = trainer.view
            images = (
                trainer.prepare.normalise(view(pixels, batch.cells, self.first + epoch)[0])
                if view
                else trainer.prepare(pixels)
            )
            with seeded_draws([self.training.seed, self.first, step], device):
                logits = trainer.logits(self.network, images)
            loss = F.cross_entropy(logits, classes)
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimiser.step()
            losses += loss.detach()
            hits += (logits.argmax(dim=1) == classes).float().mean()
        refuse_divergence(float(losses) / per_epoch, self.first + epoch + 1)
        return {"lr": lr, "loss": float(losses) / per_epoch, "accuracy": float(hits) / per_epoch}
