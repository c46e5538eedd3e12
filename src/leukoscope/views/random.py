"""Counter-based random numbers: a number is a hash of who asks for it, so nothing is shared and nothing is drawn twice.

The hash is splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"), in integer
operations that are exact on every device.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_WORD = (1 << 64) - 1
_KINDS = 32
_NUMBERS_A_KIND = 6


def uniforms(seed: int, epoch: int, cells: Tensor, n: int, stream: int | Tensor = 0) -> Tensor:
    """Draw ``n`` numbers for each cell, uniform in [0, 1).

    A cell's numbers depend on (seed, epoch, cell, stream) and on nothing else: not on the other cells of the batch, on
    their order or on the device. They have 24 bits, all that a float32 holds.

    Args:
        seed: The seed of the run.
        epoch: The epoch, so that a cell looks different in each.
        cells: int64 ``(B,)``, one number a cell.
        n: How many numbers each cell needs.
        stream: What the numbers are for, one for all or int64 ``(B,)``; two streams are independent.

    Returns:
        float32 ``(B, n)`` on the device of ``cells``.
    """
    keys = _cell_keys(seed, epoch, cells, stream)
    return _fraction(_numbered(keys, n), shift=40)


def normals(seed: int, epoch: int, cells: Tensor, n: int, stream: int | Tensor = 0) -> Tensor:
    """Draw ``n`` standard normal numbers for each cell, by the Box-Muller transform; otherwise as :func:`uniforms`.

    The integers behind them are the same on every device; the logarithm and the cosine may differ in the last bit.

    Returns:
        float32 ``(B, n)`` on the device of ``cells``.
    """
    pairs = (n + 1) // 2
    words = _numbered(_cell_keys(seed, epoch, cells, stream), pairs)
    # The two halves of a word are independent; 1 - u lies in (0, 1], where the logarithm is finite.
    radius = torch.sqrt(-2.0 * torch.log(1.0 - _fraction(words, shift=40)))
    angle = 2.0 * math.pi * _fraction(words, shift=8)
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :n]


@dataclass(frozen=True)
class Draws:
    """The random numbers of R views; each kind of operation has numbers of its own.

    So an operation that is added to a policy, or taken out, leaves the numbers of the others as they were.

    Attributes:
        seed: The seed of the run.
        epoch: The epoch.
        cells: int64 ``(R,)`` on the CPU: the cell that each view shows.
        views: int64 ``(R,)`` on the CPU: which of its cell's views each is.
    """

    seed: int
    epoch: int
    cells: Tensor
    views: Tensor

    def __len__(self) -> int:
        return len(self.cells)

    def uniform(self, kind: int, n: int) -> Tensor:
        """Uniform numbers ``(R, n)`` in [0, 1) for the operation ``kind`` (0 to 31)."""
        if n > _NUMBERS_A_KIND:
            return uniforms(self.seed, self.epoch, self.cells, n, self._streams(1 + kind))
        return self._table[:, kind, :n]

    def normal(self, kind: int, rows: Tensor, n: int, device: torch.device) -> Tensor:
        """Standard normal numbers ``(len(rows), n)`` on ``device`` for the views at ``rows``."""
        streams = self._streams(1 + _KINDS + kind)[rows].to(device)
        return normals(self.seed, self.epoch, self.cells[rows].to(device), n, streams)

    @cached_property
    def _table(self) -> Tensor:
        """All the small draws at once ``(R, kinds, numbers)``: one hash costs less than one for each operation."""
        numbers = uniforms(self.seed, self.epoch, self.cells, _KINDS * _NUMBERS_A_KIND, self._streams(0))
        return numbers.reshape(-1, _KINDS, _NUMBERS_A_KIND)

    def _streams(self, number: int) -> Tensor:
        return self.views * (1 + 2 * _KINDS) + number


def _cell_keys(seed: int, epoch: int, cells: Tensor, stream: int | Tensor) -> Tensor:
    key = 0
    for part in (seed, epoch):
        key = _mix_integer((key + part * _GOLDEN) & _WORD)
    if isinstance(stream, Tensor):
        keys: int | Tensor = _mix(stream * _signed(_GOLDEN) + _signed(key))
    else:
        keys = _signed(_mix_integer((key + stream * _GOLDEN) & _WORD))
    return _mix(cells.to(torch.int64) * _signed(_GOLDEN) + keys)


def _numbered(keys: Tensor, n: int) -> Tensor:
    steps = torch.arange(1, n + 1, dtype=torch.int64, device=keys.device) * _signed(_GOLDEN)
    return _mix(keys[:, None] + steps)


def _fraction(words: Tensor, *, shift: int) -> Tensor:
    """24 of the 64 bits, those above ``shift``, as a float32 in [0, 1)."""
    return ((words >> shift) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def _mix(words: Tensor) -> Tensor:
    words = (words ^ _shifted(words, 30)) * _signed(_FIRST)
    words = (words ^ _shifted(words, 27)) * _signed(_SECOND)
    return words ^ _shifted(words, 31)


def _mix_integer(word: int) -> int:
    word = ((word ^ (word >> 30)) * _FIRST) & _WORD
    word = ((word ^ (word >> 27)) * _SECOND) & _WORD
    return word ^ (word >> 31)


def _shifted(words: Tensor, bits: int) -> Tensor:
    """A logical shift to the right: torch's own copies the sign bit."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word
