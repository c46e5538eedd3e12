from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.common.prefetch import prefetch

_AHEAD = 3


@dataclass(frozen=True)
class Batch:
    """Pixels as acquired ``(B, C, H, W)`` uint8 or uint16, and which cells they show ``(B,)`` int64."""

    pixels: Tensor
    cells: Tensor


class Batches:
    """Batches of one or several CellSets, in an order that depends on ``(seed, epoch)`` alone.

    A cell's number runs through the sets in the order given. The last batch of an epoch is dropped where it is not
    full. Each process (``rank`` of ``world``) reads its share of every batch in a thread, ahead of the training.

    Args:
        sets: CellSets that share channels, pixel type, image size and intensity rule.
        batch: cells a batch, over all processes.
        seed: seed of the order.
        rank: this process.
        world: the number of processes.
        weights: how often each set is drawn, relative to each other; None takes every cell once an epoch.
        balance: a class for every cell of all sets ``(N,)``; an epoch then draws all classes of a set equally often.
        pin: whether to lay the pixels in page-locked memory, for a copy to a GPU in the background.

    Raises:
        InputError: when the sets do not go together, or hold fewer cells than one batch.
    """

    def __init__(
        self,
        sets: Sequence[CellSet],
        batch: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
        weights: Sequence[float] | None = None,
        balance: np.ndarray | None = None,
        pin: bool = False,
    ) -> None:
        _refuse_misfits(sets)
        self.sets = tuple(sets)
        self.batch, self.seed, self.rank, self.world, self.pin = batch, seed, rank, world, pin
        self.starts = np.cumsum([0, *(len(cellset) for cellset in sets)])
        self.shares = _shares(sets, weights)
        self.balance = balance
        if self.per_epoch == 0:
            raise InputError(
                f"{sets[0].path}: {sum(self.shares)} cells do not fill one batch of {batch}; give a smaller --batch"
            )

    @property
    def cells(self) -> int:
        """The number of cells in all sets."""
        return int(self.starts[-1])

    @property
    def per_epoch(self) -> int:
        """Full batches in an epoch."""
        return sum(self.shares) // self.batch

    def order(self, epoch: int) -> np.ndarray:
        """The cells of ``epoch`` in the order they are seen, int64 ``(per_epoch * batch,)``."""
        rng = np.random.default_rng([self.seed, epoch])
        drawn = [
            _draw(rng, group, share)
            for cells, share in zip(pairwise(self.starts), self.shares, strict=True)
            for group, share in self._groups(np.arange(*cells), share)
        ]
        return rng.permutation(np.concatenate(drawn))[: self.per_epoch * self.batch]

    def _groups(self, cells: np.ndarray, share: int) -> Iterator[tuple[np.ndarray, int]]:
        """The cells of a set, or of each class in it, and how many an epoch draws of them: ``share`` in all."""
        if self.balance is None:
            yield cells, share
            return
        classes = self.balance[cells]
        present = np.unique(classes)
        for number, one in enumerate(present):
            yield cells[classes == one], share // len(present) + (number < share % len(present))

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch]:
        """The batches of ``epoch``, from batch number ``start`` on."""
        share = self.batch // self.world
        order = self.order(epoch).reshape(self.per_epoch, self.batch)[start:]
        mine = order[:, self.rank * share : (self.rank + 1) * share]
        with closing(prefetch((self.read(cells) for cells in mine), _AHEAD)) as batches:
            yield from batches

    def read(self, cells: np.ndarray) -> Batch:
        """Read the cells ``(B,)``, any numbers in any order."""
        # On a disk, rising rows are read faster; the order asked for is restored while copying.
        ascending = np.argsort(cells, kind="stable")
        which = np.searchsorted(self.starts, cells[ascending], side="right") - 1
        pixels: np.ndarray | None = None
        for number in np.unique(which):
            rows = ascending[which == number]
            read = self.sets[number].read(cells[rows] - self.starts[number])
            if pixels is None:
                pixels = np.empty((len(cells), *read.shape[1:]), read.dtype)
            pixels[rows] = read
        tensor = torch.from_numpy(pixels)
        return Batch(tensor.pin_memory() if self.pin else tensor, torch.from_numpy(cells.astype(np.int64)))


def _shares(sets: Sequence[CellSet], weights: Sequence[float] | None) -> list[int]:
    """Cells to draw from each set in an epoch."""
    sizes = [len(cellset) for cellset in sets]
    if weights is None:
        return sizes
    if len(weights) != len(sets) or min(weights) <= 0:
        raise InputError(f"weights: {len(sets)} CellSets need as many weights above zero (given: {list(weights)})")
    return [round(sum(sizes) * weight / sum(weights)) for weight in weights]


def _draw(rng: np.random.Generator, cells: np.ndarray, share: int) -> np.ndarray:
    """``share`` of ``cells``: every cell equally often, but for the remainder."""
    return np.concatenate([cells[:0], *(rng.permutation(cells) for _ in range(-(-share // len(cells))))])[:share]


def _refuse_misfits(sets: Sequence[CellSet]) -> None:
    first = sets[0]
    for other in sets[1:]:
        for key in ("channels", "dtype", "height", "width", "intensity"):
            mine, its = getattr(first.info, key), getattr(other.info, key)
            if mine != its:
                raise InputError(
                    f"{other.path}: {key} {its} differs from {mine} of {first.path}; pack both in the same way"
                )
