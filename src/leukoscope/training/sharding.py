"""Fully sharded data parallelism: each process holds a share of the weights, gradients and the optimiser's state.

By torch's ``fully_shard`` (FSDP2). The blocks of a transformer are units that are gathered one at a time, what is left
of a method is gathered for the whole step. A method that no process shards passes through all of this unchanged.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

State = dict[str, Any]


def shard(method: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Share ``method`` out over the processes of the dimension ``data_parallel`` of ``mesh``, in place."""
    processes = mesh["data_parallel"]
    for network in list(method.modules()):
        for block in getattr(network, "blocks", ()) if hasattr(network, "group_matcher") else ():
            fully_shard(block, mesh=processes)
    fully_shard(method, mesh=processes)
    # What the loop calls; an exact method's loss sees projections alone.
    for name in ("start_epoch", "project" if getattr(method, "exact", False) else "loss"):
        register_fsdp_forward_method(method, name)
    return method


@contextmanager
def whole(method: nn.Module) -> Iterator[None]:
    """Every process holds all weights meanwhile, for what runs a part of ``method`` by itself; no gradients."""
    units = [part for part in method.modules() if isinstance(part, FSDPModule)]
    for unit in units:
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.reshard()


def states(method: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[State, State]:
    """The whole states of both, as one process alone would have them; where sharded, all processes must ask."""
    if not isinstance(method, FSDPModule):
        return method.state_dict(), optimiser.state_dict()
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return (
        get_model_state_dict(method, options=options),
        get_optimizer_state_dict(method, optimiser, options=options),
    )


def restore(method: nn.Module, optimiser: torch.optim.Optimizer, of_method: State, of_optimiser: State) -> None:
    """Give both the states that :func:`states` told, of which every process has read all."""
    if not isinstance(method, FSDPModule):
        method.load_state_dict(of_method)
        optimiser.load_state_dict(of_optimiser)
        return
    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(method, of_method, options=options)
    set_optimizer_state_dict(method, optimiser, of_optimiser, options=options)


def gathered(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that are shared out as whole ones, on every process; all must ask."""
    return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in state.items()}
