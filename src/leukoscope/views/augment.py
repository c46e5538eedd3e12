from collections.abc import Sequence

import torch
from torch import Tensor

from leukoscope.cells.intensity import Intensity
from leukoscope.common.errors import InputError
from leukoscope.views.apply import apply
from leukoscope.views.geometry import placements
from leukoscope.views.policy import Policy
from leukoscope.views.random import Draws
from leukoscope.views.resample import resample


class Augment:
    """Makes the views of whole batches, on the device of their pixels.

    A cell's views depend on (seed, epoch, cell) alone: not on the batch it comes in, and not on any worker. The
    parameters are the same on every device; pixels may differ there by rounding.

    Args:
        policy: What happens to a cell in each view.
        size: The side of a view in pixels; a view of a smaller ``share`` is smaller.
        intensity: How the pixels' grey levels become intensities in [0, 1].
        seed: The seed of the run.
    """

    def __init__(self, policy: Policy, size: int, intensity: Intensity, seed: int) -> None:
        self.policy = policy
        self.size = size
        self.intensity = intensity
        self.seed = seed
        if len(intensity.low) != 3:
            _refuse_colour(policy, len(intensity.low))

    @torch.no_grad()
    def __call__(self, pixels: Tensor, cells: Tensor, epoch: int) -> list[Tensor]:
        """Make every view of every cell.

        Args:
            pixels: uint8 or uint16 ``(B, C, H, W)``.
            cells: int64 ``(B,)``, a number for each cell, the same in every epoch: its row in the CellSet, say.
            epoch: The epoch.

        Returns:
            One float32 ``(B, C, side, side)`` in [0, 1] a view, in the policy's order.
        """
        kinds = self.policy.views
        draws = self._draws(cells.cpu(), epoch)
        moved = self._moved(pixels, draws)
        done = [apply(kind, images, own) for kind, images, own in zip(kinds, moved, draws, strict=True)]
        return [view for kind, images in zip(kinds, done, strict=True) for view in images.chunk(kind.count)]

    def _draws(self, cells: Tensor, epoch: int) -> list[Draws]:
        """The random numbers of each kind of view: all cells in its first view, all in its second, and so on."""
        draws = []
        first = 0
        for kind in self.policy.views:
            views = torch.arange(first, first + kind.count).repeat_interleave(len(cells))
            draws.append(Draws(self.seed, epoch, cells.repeat(kind.count), views))
            first += kind.count
        return draws

    def _moved(self, pixels: Tensor, draws: Sequence[Draws]) -> list[Tensor]:
        """The views of each kind after the moves; those of one size are drawn together and share what they can."""
        kinds = self.policy.views
        moved: list[Tensor] = [pixels] * len(kinds)
        sides = [kind.side(self.size) for kind in kinds]
        for side in set(sides):
            which = [index for index, own in enumerate(sides) if own == side]
            maps = torch.cat([placements(kinds[index], draws[index]) for index in which])
            rows = torch.arange(len(pixels)).repeat(len(maps) // len(pixels))
            drawn = resample(pixels, rows, maps, side, self.intensity)
            for index, images in zip(which, torch.split(drawn, [len(draws[index]) for index in which]), strict=True):
                moved[index] = images
        return moved


def _refuse_colour(policy: Policy, channels: int) -> None:
    for index, view in enumerate(policy.views):
        for key in ("hue", "saturation", "grey"):
            if getattr(view, key) is not None:
                raise InputError(
                    f"policy key views.{index}.{key}: needs the three channels of RGB, but the cells have {channels}; "
                    "take it out of the policy"
                )
