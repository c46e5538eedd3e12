from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import Tensor

from leukoscope.common.progress import progress as progress_bar
from leukoscope.training.gradient import MakeViews, mark_forward, step_gradient
from leukoscope.training.method import Method
from leukoscope.training.monitors import Monitor, Views, refuse_collapse, refuse_divergence
from leukoscope.training.optimisers import create_optimiser
from leukoscope.training.run import Run
from leukoscope.training.schedules import schedule, warmup_steps
from leukoscope.training.settings import TrainSettings
from leukoscope.training.sharding import whole
from leukoscope.training.source import Batch, Batches


def fit(
    fabric: Fabric,
    method: Method,
    source: Batches,
    views: Views,
    settings: TrainSettings,
    out: Path,
    *,
    monitor: Monitor | None = None,
    after_epoch: Callable[[int, Mapping[str, float]], None] | None = None,
) -> dict[str, float]:
    """Train ``method`` and return the last epoch's numbers; the same call after a kill goes on where it stopped.

    Leaves ``history.csv`` (a row an epoch), ``steps.csv`` (a row every ``log_steps``) and ``checkpoint.pt`` in
    ``out``. ``after_epoch`` is called with the epochs trained and the numbers of the last, before its checkpoint.
    On one CPU thread a resumed run ends with the bits of an uninterrupted one.

    Raises:
        CheckFailed: when the loss diverges, the features collapse or the loss stays at chance.
        InputError: when an epoch is shorter than one optimiser step, or the checkpoint cannot be read.
    """
    if settings.channels_last:
        method.to(memory_format=torch.channels_last)
    if settings.recompute:
        _recompute(method)
    module = fabric.setup_module(method)
    mark_forward(module, method)
    optimiser = fabric.setup_optimizers(create_optimiser(method, settings))
    module.train()
    run = Run(fabric, method, optimiser, source, settings, out)
    _judge(run, method, settings)
    show = progress_bar("pretrain", run.images_left, "images") if fabric.is_global_zero else nullcontext(_silent)
    with show as advance:
        while run.step < run.end:
            epoch = run.step // run.per_epoch
            batches = source.epoch(epoch, start=run.step % run.per_epoch * settings.accumulate)
            made = partial(_made, fabric, views, settings, epoch)
            if run.step % run.per_epoch == 0:
                with torch.no_grad(), fabric.autocast():
                    method.start_epoch(partial(_whole, source, epoch, made), run.progress(epoch))
            for _ in range(run.step % run.per_epoch, run.per_epoch):
                progress = run.progress(epoch)
                lr = schedule(optimiser, settings, run.step, run.steps, method.rate(progress))
                drawn = islice(batches, settings.accumulate)
                for loss, numbers in step_gradient(fabric, module, drawn, settings.accumulate, made, progress):
                    run.count(loss, numbers)
                method.before_step(progress)
                if settings.clip is not None:
                    fabric.clip_gradients(module, optimiser, max_norm=settings.clip)
                optimiser.step()
                optimiser.zero_grad()
                method.after_step(progress)
                advance(run.images_a_step, run.end_step(lr, loss, numbers, progress))
            batches.close()
            # Of all processes: one alone would leave the others waiting.
            refuse_divergence(float(fabric.all_reduce(run.sums["loss"] / run.batches)), epoch + 1)
            with whole(method):
                measured = monitor.measure(method.online(), fabric.device) if monitor else {}
            run.end_epoch(epoch, lr, measured)
            if after_epoch:
                after_epoch(epoch + 1, run.numbers)
            run.save()
            _judge(run, method, settings)
    return run.numbers


def _judge(run: Run, method: Method, settings: TrainSettings) -> None:
    past_warmup = run.step - warmup_steps(settings, run.steps)
    if run.numbers and settings.collapse_steps and past_warmup >= settings.collapse_steps:
        refuse_collapse(run.numbers, method, run.step // run.per_epoch)


def _recompute(method: Method) -> None:
    """Turn activation checkpointing on in the networks that are trained. Batch norms then count each batch twice."""
    for part in method.modules():
        switch = getattr(part, "set_grad_checkpointing", None)
        if callable(switch) and any(parameter.requires_grad for parameter in part.parameters()):
            switch(True)


@torch.no_grad()
def _made(
    fabric: Fabric, views: Views, settings: TrainSettings, epoch: int, batch: Batch
) -> tuple[list[Tensor], Tensor]:
    """The views of ``batch`` on the device, laid out as the networks take them, and its cells."""
    pixels, cells = fabric.to_device((batch.pixels, batch.cells))
    made = views(pixels, batch.cells, epoch)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    return [view.contiguous(memory_format=layout) for view in made], cells


def _whole(source: Batches, epoch: int, made: MakeViews) -> Iterator[tuple[list[Tensor], Tensor]]:
    """All batches of ``epoch``, for what a method does before it."""
    return map(made, source.epoch(epoch))


def _silent(n: int, note: str = "") -> None:
    """Another process shows the progress."""
