from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from leukoscope.cells.cellset import CellSet
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.device import pick_device


def prepared(
    encoder: Encoder, cellset: CellSet, rows: np.ndarray, *, device: str, batch: int
) -> Iterator[tuple[slice, Tensor]]:
    """Network input ``(b, C, size, size)`` of the cells ``rows`` a batch at a time, with the places that they take.

    The encoder is moved to the device first.
    """
    place = pick_device(device)
    encoder.to(place)
    for start in range(0, len(rows), batch):
        chosen = slice(start, start + batch)
        pixels = torch.from_numpy(cellset.read(np.asarray(rows)[chosen])).to(place)
        yield chosen, encoder.prepare(pixels, cellset.info.intensity)
