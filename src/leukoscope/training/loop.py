from contextlib import nullcontext
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import Tensor

from leukoscope.common.progress import progress as progress_bar
from leukoscope.training.method import Method
from leukoscope.training.monitors import Monitor, Views, refuse_collapse, refuse_divergence
from leukoscope.training.optimisers import create_optimiser
from leukoscope.training.run import Run, seeded
from leukoscope.training.schedules import learning_rate, warmup_steps
from leukoscope.training.settings import TrainSettings
from leukoscope.training.source import Batches


def fit(
    fabric: Fabric,
    method: Method,
    source: Batches,
    views: Views,
    settings: TrainSettings,
    out: Path,
    *,
    monitor: Monitor | None = None,
) -> dict[str, float]:
    """Train ``method`` and return the last epoch's numbers; the same call after a kill goes on where it stopped.

    Leaves ``history.csv`` (a row an epoch), ``steps.csv`` (a row every ``log_steps``) and ``checkpoint.pt`` in
    ``out``. On one CPU thread a resumed run ends with the bits of an uninterrupted one.

    Raises:
        CheckFailed: when the loss diverges, the features collapse or the loss stays at chance.
        InputError: when an epoch is shorter than one optimiser step, or the checkpoint cannot be read.
    """
    if settings.channels_last:
        method.to(memory_format=torch.channels_last)
    module, optimiser = fabric.setup(method, create_optimiser(method, settings))
    module.mark_forward_method("loss")
    module.train()
    run = Run(fabric, method, optimiser, source, settings, out)
    _judge(run, method, settings)
    show = progress_bar("pretrain", run.images_left, "images") if fabric.is_global_zero else nullcontext(_silent)
    with show as advance:
        while run.step < run.steps:
            epoch = run.step // run.per_epoch
            batches = source.epoch(epoch, start=run.step % run.per_epoch * settings.accumulate)
            for _ in range(run.step % run.per_epoch, run.per_epoch):
                progress = run.progress(epoch)
                lr = learning_rate(settings, run.step, run.steps)
                for group in optimiser.param_groups:
                    group["lr"] = lr
                with seeded(progress, fabric):
                    for number in range(settings.accumulate):
                        batch = next(batches)
                        pixels, cells = fabric.to_device((batch.pixels, batch.cells))
                        with torch.no_grad():
                            x = [_laid_out(view, settings) for view in views(pixels, batch.cells, epoch)]
                        with fabric.no_backward_sync(module, enabled=number + 1 < settings.accumulate):
                            loss, numbers = module.loss(x, cells, progress._replace(batch=number))
                            fabric.backward(loss / settings.accumulate)
                        run.count(loss, numbers)
                if settings.clip is not None:
                    fabric.clip_gradients(module, optimiser, max_norm=settings.clip)
                optimiser.step()
                optimiser.zero_grad()
                method.after_step(progress)
                advance(run.images_a_step, run.end_step(lr, loss, numbers, progress))
            batches.close()
            refuse_divergence(float(run.sums["loss"]) / run.batches, epoch + 1)
            measured = monitor.measure(method.online(), fabric.device) if monitor else {}
            run.end_epoch(epoch, lr, measured)
            _judge(run, method, settings)
    return run.numbers


def _judge(run: Run, method: Method, settings: TrainSettings) -> None:
    past_warmup = run.step - warmup_steps(settings, run.steps)
    if run.numbers and settings.collapse_steps and past_warmup >= settings.collapse_steps:
        refuse_collapse(run.numbers, method, run.step // run.per_epoch)


def _laid_out(view: Tensor, settings: TrainSettings) -> Tensor:
    return view.contiguous(memory_format=torch.channels_last) if settings.channels_last else view


def _silent(n: int, note: str = "") -> None:
    """Another process shows the progress."""
