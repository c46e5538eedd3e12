from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def split_crops(views: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Global and local views ``(B, C, S, S)``: those of the largest side, and the smaller ones (SwAV's multi-crop)."""
    largest = max(view.shape[-1] for view in views)
    return [view for view in views if view.shape[-1] == largest], [v for v in views if v.shape[-1] < largest]


def run_crops(network: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> list[Tensor]:
    """``network`` of every view, in order. Views of one size pass as one batch, so that batch norm sees them together.

    So do the authors of SwAV and DINO.
    """
    outputs: dict[int, Tensor] = {}
    for side in dict.fromkeys(view.shape[-1] for view in views):
        places = [place for place, view in enumerate(views) if view.shape[-1] == side]
        passed = network(torch.cat([views[place] for place in places]))
        outputs.update(zip(places, passed.chunk(len(places)), strict=True))
    return [outputs[place] for place in range(len(views))]
