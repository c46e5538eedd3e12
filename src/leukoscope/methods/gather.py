import torch
import torch.distributed as dist
from lightly.models.utils import concat_all_gather
from lightly.utils.dist import gather as gather_each
from torch import Tensor


def processes() -> int:
    """How many processes train together, 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, 0 without torch.distributed."""
    return dist.get_rank() if processes() > 1 else 0


@torch.no_grad()
def gather(x: Tensor) -> Tensor:
    """The rows of all processes in order of rank ``(world * B, ...)``, without gradient; ``x`` itself on one."""
    if processes() == 1:
        return x
    gathered: Tensor = concat_all_gather(x.contiguous())
    return gathered


def gather_with_gradient(x: Tensor) -> Tensor:
    """As :func:`gather`; every process gets the gradient that its rows have in all of them."""
    return x if processes() == 1 else torch.cat(gather_each(x))
