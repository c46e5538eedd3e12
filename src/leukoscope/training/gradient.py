from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch
from lightning.fabric import Fabric
from lightning.fabric.wrappers import _FabricModule
from torch import Tensor, nn

from leukoscope.encoders.seeding import seeded_draws
from leukoscope.training.method import JointEmbedding, Method, Progress
from leukoscope.training.source import Batch

MakeViews = Callable[[Batch], tuple[list[Tensor], Tensor]]
"""The views ``(B, C, S, S)`` of a batch, the same each time it is asked for them, and its cells ``(B,)``."""
Told = tuple[Tensor, Mapping[str, Tensor]]
"""A loss, a scalar, and numbers to log."""


def mark_forward(module: _FabricModule, method: Method) -> None:
    """Let the methods of ``method`` that run its networks go through Fabric's synchronisation.

    On one device it calls them as they are, without its precision: each call stands under ``fabric.autocast``.
    """
    for name in ("loss", "project") if isinstance(method, JointEmbedding) else ("loss",):
        module.mark_forward_method(name)


def step_gradient(
    fabric: Fabric, module: _FabricModule, batches: Iterable[Batch], count: int, views: MakeViews, progress: Progress
) -> Iterator[Told]:
    """Add up the gradient of one optimiser step over its ``count`` batches; gives what each part of it tells."""
    method = module.module
    if isinstance(method, JointEmbedding) and method.exact and count > 1:
        yield cached(fabric, module, list(batches), views, progress)
    else:
        yield from accumulated(fabric, module, batches, count, views, progress)


def accumulated(
    fabric: Fabric, module: _FabricModule, batches: Iterable[Batch], count: int, views: MakeViews, progress: Progress
) -> Iterator[Told]:
    """The mean of the gradients of ``count`` batches, each with a loss of its own."""
    for number, batch in enumerate(batches):
        own = progress._replace(batch=number)
        with seeded(own, fabric), fabric.no_backward_sync(module, enabled=number + 1 < count):
            x, cells = views(batch)
            with fabric.autocast():
                loss, numbers = module.loss(x, cells, own)
            fabric.backward(loss / count)
        yield loss, numbers


def cached(fabric: Fabric, module: _FabricModule, batches: list[Batch], views: MakeViews, progress: Progress) -> Told:
    """The gradient of one loss over all batches together, in the memory of one (Gao et al. 2021, arXiv:2101.06983).

    All cells are projected without a graph; the loss gives the gradient of each projection; then every batch is
    projected again, with the same random numbers, and its projections' gradients go back through the networks. Batch
    norm takes the statistics of each batch, and counts them once.
    """
    method = module.module

    def project(number: int) -> Tensor:
        with seeded(progress._replace(batch=number), fabric):
            x, _ = views(batches[number])
            with fabric.autocast():
                z: Tensor = module.project(x, progress)
        return z.float()

    with torch.no_grad(), _buffers_kept(method):
        parts = [project(number) for number in range(len(batches))]
    z = torch.cat(parts, dim=1).requires_grad_()
    with seeded(progress._replace(batch=len(batches)), fabric):
        cells = fabric.to_device(torch.cat([batch.cells for batch in batches]))
        loss, numbers = method.compare(z, cells, progress)
    (gradient,) = torch.autograd.grad(loss, z)
    shares = torch.split(gradient, [part.shape[1] for part in parts], dim=1)
    for number, own in enumerate(shares):
        with fabric.no_backward_sync(module, enabled=number + 1 < len(batches)):
            fabric.backward(project(number), gradient=own)
    return loss.detach(), numbers


def seeded(progress: Progress, fabric: Fabric) -> AbstractContextManager[None]:
    """Seed what is drawn from the global states by step and batch; see :func:`seeded_draws`."""
    return seeded_draws([progress.seed, progress.step, progress.batch, fabric.global_rank], fabric.device)


@contextmanager
def _buffers_kept(network: nn.Module) -> Iterator[None]:
    """Undo what a forward pass does to running statistics."""
    before = [buffer.clone() for buffer in network.buffers()]
    yield
    for buffer, old in zip(network.buffers(), before, strict=True):
        buffer.copy_(old)
