from lightly.utils.scheduler import cosine_warmup_schedule

from leukoscope.training.settings import TrainSettings


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    """The learning rate of optimiser step ``step`` of ``steps``: a linear warm-up, then cosine or constant."""
    warmup = warmup_steps(settings, steps)
    if step < warmup or settings.schedule == "constant":
        return settings.lr * min(1.0, (step + 1) / max(warmup, 1))
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


def warmup_steps(settings: TrainSettings, steps: int) -> int:
    """Optimiser steps of the warm-up, of ``steps`` in all."""
    return round(settings.warmup_epochs * steps / settings.epochs)
