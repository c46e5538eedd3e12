import copy
from typing import TypeVar

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
