import copy
from typing import TypeVar

import torch
from lightly.models.utils import deactivate_requires_grad
from timm.layers import DropPath
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def momentum_twin(network: Network) -> Network:
    """A copy of ``network`` that takes no gradient and drops no path: a teacher, or an encoder of keys."""
    twin = copy.deepcopy(network)
    deactivate_requires_grad(twin)
    for part in twin.modules():
        if isinstance(part, DropPath):
            part.drop_prob = 0.0
    return twin


@torch.no_grad()
def follow(network: nn.Module, twin: nn.Module, momentum: float) -> None:
    """Move the weights of ``twin`` towards those of ``network``: ``momentum`` of its own and the rest of theirs.

    In place, where lightly's ``update_momentum`` lays other tensors under the weights: processes that share a twin out
    hold on to the ones they have.
    """
    for theirs, own in zip(network.parameters(), twin.parameters(), strict=True):
        own.mul_(momentum).add_(theirs, alpha=1.0 - momentum)
