from lightly.utils.scheduler import cosine_schedule, cosine_warmup_schedule
from torch.optim import Optimizer

from leukoscope.training.settings import TrainSettings


def schedule(optimiser: Optimizer, settings: TrainSettings, step: int, steps: int, factor: float = 1.0) -> float:
    """Give ``optimiser`` this step's learning rate (times ``factor``) and weight decay; returns the rate.

    What is undecayed stays so.
    """
    lr, decay = factor * learning_rate(settings, step, steps), weight_decay(settings, step, steps)
    for group in optimiser.param_groups:
        group["lr"] = lr * group["scale"]
        if group["decayed"]:
            group["weight_decay"] = decay
    return lr


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    """The learning rate of optimiser step ``step`` of ``steps``: a linear warm-up, then as ``schedule`` says."""
    warmup = warmup_steps(settings, steps)
    if step < warmup or settings.schedule == "constant":
        return settings.lr * min(1.0, (step + 1) / max(warmup, 1))
    if settings.schedule == "step":
        passed = sum(step >= round(milestone * steps / settings.epochs) for milestone in settings.milestones)
        return float(settings.lr * settings.gamma**passed)
    return float(
        cosine_warmup_schedule(
            step,
            max_steps=steps,
            start_value=settings.lr,
            end_value=settings.lr_end,
            warmup_steps=warmup,
            warmup_start_value=0.0,
        )
    )


def weight_decay(settings: TrainSettings, step: int, steps: int) -> float:
    """The weight decay of optimiser step ``step`` of ``steps``: what is decayed, constant or along a cosine."""
    start, end = settings.weight_decay, settings.weight_decay_end
    return start if end is None else float(cosine_schedule(step, steps, start, end))


def warmup_steps(settings: TrainSettings, steps: int) -> int:
    """Optimiser steps of the warm-up, of ``steps`` in all."""
    return round(settings.warmup_epochs * steps / settings.epochs)
