from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.readout import Readout
from leukoscope.explain.gradcam import grad_cam

# Nearer to 1 the cosine is flat to rounding, and its gradient is noise.
_THE_SAME = 1 - 1e-6


class Similarity(nn.Module):
    """Cosine similarity to reference cells as a head of one logit: features ``(B, D)`` in, ``(B, 1)`` out.

    Of several references the mean of their directions counts, each cell having one say.

    Args:
        references: features of the reference cells ``(n, D)``.
    """

    direction: Tensor

    def __init__(self, references: Tensor) -> None:
        super().__init__()
        self.register_buffer("direction", F.normalize(references, dim=1).mean(dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """The cosine ``(B, 1)`` between ``x`` ``(B, D)`` and the references."""
        return F.cosine_similarity(x, self.direction[None], dim=1)[:, None]


@dataclass(frozen=True)
class Likeness:
    """How like the references cells are, float32 ``(n,)`` in [-1, 1], and where: ``heat`` float32 ``(n, H, W)``."""

    similarity: np.ndarray
    heat: np.ndarray


def likeness(
    encoder: Encoder,
    cellset: CellSet,
    rows: np.ndarray,
    references: np.ndarray,
    *,
    stages: int = 1,
    device: str = "auto",
    batch: int = 32,
) -> Likeness:
    """Where in each cell lies what makes it like the ``references``: Grad-CAM of a cosine, which needs no labels.

    Heat is that of :func:`~leukoscope.explain.gradcam.grad_cam`. A cosine does not change with the length of the
    features, so with average pooling the evidence sums to zero over a cell before its negative part is cut off:
    heat is where the cell is more like the references than it is as a whole. A cell that is the reference itself
    cannot become more alike and has no heat.

    Args:
        encoder: the frozen encoder.
        cellset: the cells.
        rows: which cells ``(n,)``, as row numbers of ``cellset``.
        references: the cells that they are compared with, as row numbers of ``cellset``, at least one.
        stages: how many stages the features are read from.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        batch: cells a step.
    """
    both = cellset.select(np.concatenate([references, rows]))
    readout = Readout(stages=stages)
    x = torch.from_numpy(embed(both, encoder, batch=batch, device=device, precision="fp32", readout=readout).x)
    head = Similarity(x[: len(references)])
    similarity = head(x[len(references) :])[:, 0].numpy()
    heat = grad_cam(encoder, cellset, rows, head, stages=stages, device=device, batch=batch)
    heat[similarity > _THE_SAME] = 0
    return Likeness(similarity, heat)
