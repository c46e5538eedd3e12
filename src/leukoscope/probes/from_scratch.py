from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from leukoscope.cells.cellset import CellSet
from leukoscope.common.settings import Settings
from leukoscope.encoders.device import autocast
from leukoscope.probes.networks import create_network
from leukoscope.training.optimisers import create_optimiser
from leukoscope.training.schedules import learning_rate
from leukoscope.training.settings import TrainSettings
from leukoscope.training.source import Batches
from leukoscope.views.augment import Augment
from leukoscope.views.policy import Policy
from leukoscope.views.preprocess import Preprocess


class SupervisedSettings(Settings):
    """How a network is trained from scratch on labelled cells, as a baseline for frozen encoders.

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

    def training(self, lr: float, seed: int) -> TrainSettings:
        """The same for the optimisers and schedules of pre-training."""
        warmup = self.warmup_epochs if self.warmup_epochs < self.epochs else 0.0
        keys = ("epochs", "batch", "optimiser", "momentum", "weight_decay")
        return TrainSettings(lr=lr, seed=seed, warmup_epochs=warmup, **{key: getattr(self, key) for key in keys})


@dataclass(frozen=True)
class Trainer:
    """Fits the network of one name on rows of a CellSet; ``truth`` holds the class index of every row."""

    model: str
    cellset: CellSet
    truth: Tensor
    n_classes: int
    settings: SupervisedSettings
    seed: int
    device: torch.device

    def fit(self, rows: np.ndarray, lr: float) -> nn.Module:
        """Train on ``rows``; the same rows, rate and seed give the same weights."""
        training = self.settings.training(lr, self.seed)
        batches = Batches([self.cellset.select(rows)], min(training.batch, len(rows)), self.seed)
        network = self._network()
        optimiser = create_optimiser(network, training)
        truth, view, prepare = self.truth[rows], self._view(), self._preprocess()
        steps = training.epochs * batches.per_epoch
        network.train()
        for epoch in range(training.epochs):
            for step, batch in enumerate(batches.epoch(epoch), start=epoch * batches.per_epoch):
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(training, step, steps)
                pixels = batch.pixels.to(self.device)
                images = prepare.normalise(view(pixels, batch.cells, epoch)[0]) if view else prepare(pixels)
                loss = F.cross_entropy(self._logits(network, images), truth[batch.cells].to(self.device))
                optimiser.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimiser.step()
        return network

    @torch.no_grad()
    def predict(self, network: nn.Module, rows: np.ndarray) -> np.ndarray:
        """Probabilities ``(n, K)`` of the cells at ``rows``, as they are."""
        network.eval()
        prepare = self._preprocess()
        found = []
        for part in np.array_split(rows, max(1, -(-len(rows) // 256))):
            images = prepare(torch.from_numpy(self.cellset.read(part)).to(self.device))
            found.append(self._logits(network, images).softmax(dim=1).cpu().numpy())
        probabilities: np.ndarray = np.concatenate(found)
        return probabilities

    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        with autocast(self.device):
            logits: Tensor = network(images.to(memory_format=torch.channels_last))
        return logits.float()

    def _network(self) -> nn.Module:
        channels, size = self.cellset.channels, self.settings.size
        network = create_network(self.model, channels=channels, size=size, n_classes=self.n_classes, seed=self.seed)
        return network.to(self.device).to(memory_format=torch.channels_last)

    def _preprocess(self) -> Preprocess:
        info, settings = self.cellset.info, self.settings
        # A channel of one single intensity has no spread to divide by.
        std = tuple(value if value > 0 else 1.0 for value in info.std)
        preprocess = Preprocess(settings.size, info.intensity, settings.mean or info.mean, settings.std or std)
        return preprocess.to(self.device)

    def _view(self) -> Augment | None:
        if self.settings.policy is None:
            return None
        first = Policy.load(self.settings.policy).views[0]
        once = Policy(views=(first.model_copy(update={"count": 1, "share": 1.0}),))
        return Augment(once, self.settings.size, self.cellset.info.intensity, self.seed)
