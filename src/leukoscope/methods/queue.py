import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeyQueue(nn.Module):
    """The newest keys, first in, first out, each with the cell it was made of (MoCo, He et al. 2020, section 3.1).

    It starts with random unit vectors of no cell, as the authors' does.

    Args:
        length: keys kept.
        dim: dimensions of a key.
        seed: seed of the first, random keys.
    """

    keys: Tensor
    cells: Tensor
    position: Tensor

    def __init__(self, length: int, dim: int, seed: int) -> None:
        super().__init__()
        noise = torch.randn(length, dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("keys", F.normalize(noise, dim=1))
        self.register_buffer("cells", torch.full((length,), -1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def full(self) -> bool:
        """Whether no random vector is left."""
        return bool((self.cells >= 0).all())

    @torch.no_grad()
    def push(self, keys: Tensor, cells: Tensor) -> None:
        """Let ``keys`` ``(B, dim)`` of ``cells`` ``(B,)`` take the place of the oldest; B may exceed the length."""
        keys, cells = keys[-len(self) :], cells[-len(self) :]
        places = (self.position + torch.arange(len(keys), device=keys.device)) % len(self)
        self.keys[places] = keys.to(self.keys.dtype)
        self.cells[places] = cells
        self.position.copy_((self.position + len(keys)) % len(self))
