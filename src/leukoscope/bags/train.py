import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from leukoscope.bags.bags import Bags
from leukoscope.bags.model import BagModel
from leukoscope.common.errors import CheckFailed
from leukoscope.common.settings import Settings
from leukoscope.encoders.device import autocast
from leukoscope.probes.best import Best

# Cells judged at once: 20,000 of 512 features are 40 MiB, and as much again a layer.
_CELLS_AT_ONCE = 20_000


class TrainBagsSettings(Settings):
    """How a model of bags is trained; the defaults are those of aml-ssl-mil (section 4.2) but where it says so."""

    epochs: int = Field(default=50, ge=1)
    patience: int = Field(default=20, ge=1)
    """Training ends when the validation loss has not fallen for so many epochs; the best epoch's weights are kept."""
    lr: float = Field(default=0.015, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of Nesterov's; the paper does not state it."""
    weight_decay: float = Field(default=0.0, ge=0)
    """The paper does not state it."""
    clip: float | None = Field(default=5.0, gt=0)
    """Greatest norm of a step's gradient; None does not clip, as the paper says nothing of it."""
    bags: int = Field(default=10, ge=1)
    """Patients whose gradients make one step."""
    cells: int = Field(default=500, ge=1)
    """Most cells of a patient in a step, drawn anew each time; all of them are judged in the end."""
    balance: bool = True
    """Draw patients of every class equally often."""
    flips: bool = True
    """Draw each cell as it is or mirrored, where the features of mirrored cells are stored (``embed --flipped``)."""
    standardise: bool = True
    """Scale each feature by the training cells, which the paper does not."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What a step computes in, see :func:`leukoscope.encoders.device.pick_dtype`; bags are judged in float32."""


@dataclass(frozen=True)
class FittedBags:
    """A trained model, how its features are scaled, and after how many epochs its weights were best."""

    model: BagModel
    mean: Tensor
    scale: Tensor
    epochs: int
    validation_loss: float


def fit_bags(
    model: BagModel,
    bags: Bags,
    x: Tensor,
    y: Tensor,
    training: np.ndarray,
    validation: np.ndarray,
    settings: TrainBagsSettings,
    seed: int,
    *,
    flipped: Tensor | None = None,
) -> FittedBags:
    """Train ``model`` on some bags, and stop by the loss on others.

    Args:
        model: untrained; it is trained in place.
        bags: all of them.
        x: features of their cells ``(N, D)``, or maps ``(N, C, h, w)``, on the device to train on.
        y: the class of every bag, int64 ``(P,)``, on the same device.
        training: which bags to learn from.
        validation: which to stop by.
        settings: of the training.
        seed: of the order of bags and the cells drawn of them.
        flipped: features of the mirrored cells ``(3, N, D)``, drawn as often as those of the cells themselves.

    Raises:
        CheckFailed: when training diverges.
        InputError: when the precision is not one of this device's.
    """
    mean, scale = _scaling(x, bags, training, standardise=settings.standardise)
    optimiser = torch.optim.SGD(
        model.parameters(), settings.lr, settings.momentum, nesterov=True, weight_decay=settings.weight_decay
    )
    rng = np.random.default_rng(seed)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs)
    best = Best(settings.patience)
    while best.seen < settings.epochs and not best.ended:
        model.train()
        for step in _steps(rng, y.cpu().numpy(), training, settings):
            rows, of = _drawn(rng, bags, step, settings.cells)
            cells = as_drawn(rng, x, flipped if settings.flips else None, rows).sub_(mean).div_(scale)
            # Gradients of patients add up, as where each is a batch of its own and a step follows after ten.
            truth = y[torch.from_numpy(step).to(y.device)]
            with autocast(x.device, settings.precision, trained=model):
                loss = model.loss(cells, torch.from_numpy(of).to(x.device), len(step), truth)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimiser.step()
        schedule.step()
        judged, _ = judge(FittedBags(model, mean, scale, best.seen + 1, 0.0), x, bags.rows(validation))
        lost = float(F.nll_loss(judged.clamp_min(1e-12).log(), y[torch.from_numpy(validation).to(y.device)].cpu()))
        if not math.isfinite(lost):
            raise CheckFailed(
                f"the loss on validation bags is {lost} in epoch {best.seen + 1}; lower lr ({settings.lr:g})"
            )
        best.see(lost, model)
    return FittedBags(model, mean, scale, best.restore(model), best.loss)


@torch.no_grad()
def judge(fitted: FittedBags, x: Tensor, rows: Sequence[np.ndarray]) -> tuple[Tensor, list[Tensor] | None]:
    """Judge bags, the cells of each given as rows of the features ``x`` ``(N, D)``.

    Returns:
        Their probabilities ``(len(rows), K)``, and the attention ``(cells, H)`` in each; both on the CPU.
    """
    fitted.model.eval()
    probabilities, attention = [], []
    sizes = np.array([len(each) for each in rows])
    for part in _parts(sizes):
        of = np.repeat(np.arange(len(part)), sizes[part])
        own = torch.from_numpy(np.concatenate([rows[place] for place in part])).to(x.device)
        judged = fitted.model(x[own].sub_(fitted.mean).div_(fitted.scale), torch.from_numpy(of).to(x.device), len(part))
        probabilities.append(judged.logits.softmax(dim=1).cpu())
        if judged.attention is not None:
            attention += list(judged.attention.cpu().split(sizes[part].tolist()))
    return torch.cat(probabilities), attention or None


def _scaling(x: Tensor, bags: Bags, training: np.ndarray, *, standardise: bool) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature over the cells of the training bags."""
    if not standardise:
        return x.new_zeros(x.shape[1:]), x.new_ones(x.shape[1:])
    own = x[torch.from_numpy(np.concatenate(bags.rows(training))).to(x.device)]
    spread = own.std(dim=0)
    return own.mean(dim=0), torch.where(spread > 0, spread, 1.0)


def _steps(
    rng: np.random.Generator, y: np.ndarray, training: np.ndarray, settings: TrainBagsSettings
) -> Iterator[np.ndarray]:
    """The bags of each step of an epoch, as many in all as there are training bags."""
    order = rng.permutation(training)
    if settings.balance:
        counts = np.bincount(y[training], minlength=y.max() + 1)
        weights = 1.0 / counts[y[training]]
        order = rng.choice(training, len(training), p=weights / weights.sum())
    yield from np.array_split(order, -(-len(order) // settings.bags))


def _drawn(rng: np.random.Generator, bags: Bags, step: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of at most ``most`` cells of each bag, and the place in ``step`` of the bag of each."""
    rows = [each if len(each) <= most else rng.choice(each, most, replace=False) for each in bags.rows(step)]
    return np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(each) for each in rows])


def as_drawn(rng: np.random.Generator, x: Tensor, flipped: Tensor | None, rows: np.ndarray) -> Tensor:
    """The features of these cells, each as it is or mirrored, all four ways equally often."""
    own = torch.from_numpy(rows).to(x.device)
    if flipped is None:
        return x[own]
    way = torch.from_numpy(rng.integers(0, len(flipped) + 1, len(rows))).to(x.device)
    shown = flipped[(way - 1).clamp_min(0), own]
    return torch.where((way == 0)[:, None], x[own], shown)


def _parts(sizes: np.ndarray) -> Iterator[np.ndarray]:
    """Places of bags that are judged together: whole bags, about as many cells as fit at once."""
    number = (np.cumsum(sizes) - 1) // _CELLS_AT_ONCE
    for part in np.unique(number):
        yield np.flatnonzero(number == part)
