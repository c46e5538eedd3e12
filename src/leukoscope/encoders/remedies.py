"""What can be done, without labels, about cells that come from another instrument than an encoder learned from."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.device import pick_device
from leukoscope.views.preprocess import Preprocess

_SIDE = 32  # pixels; colours are counted on reduced images
_MOST_CELLS = 4000
_DARKEST = 1 / 255  # an intensity below which no optical density is told


def reestimate_batch_norm(encoder: Encoder, cellset: CellSet, *, batch: int = 256, device: str = "auto") -> Encoder:
    """A copy of ``encoder`` whose batch norms have the statistics of the cells of ``cellset``; weights stay.

    Adaptive batch normalisation (Li et al. 2018, Pattern Recognition 80:109-117). The statistics are plain means over
    all batches; each layer's are of inputs normalised by their own batches, as in training.

    Args:
        encoder: an encoder with batch norms.
        cellset: the new cells; their labels are not looked at.
        batch: cells a batch.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.

    Raises:
        InputError: when the network has no batch norm, or there are fewer than two cells.
    """
    place = pick_device(device)
    adapted = Encoder(copy.deepcopy(encoder.backbone), encoder.info).to(place)
    norms = [module for module in adapted.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms or len(cellset) < 2:
        lacks = "has no batch norm" if not norms else f"{cellset.path}: has {len(cellset)} cells"
        raise InputError(f"batch-norm: {encoder.info.timm_name} {lacks}; leave this remedy out")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    # Batches of nearly the same size: each counts the same.
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(cellset)), -(-len(cellset) // batch)):
            pixels = torch.from_numpy(cellset.read(rows)).to(place)
            adapted.backbone(adapted.prepare(pixels, cellset.info.intensity))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    return adapted


@dataclass(frozen=True)
class Recolour:
    """Brings the colours of one set of cells to those of another: intensities in [0, 1] in, the same out.

    The linear Monge-Kantorovich map (Pitié and Kokaram 2007, IET CVMP, equation 9): of all linear maps that give the
    new cells the mean and covariance of the known ones, the one that moves colours least. It is one map for the whole
    set, so that no cell is judged by its own colour; of a single channel it is a change of mean and standard deviation.
    With ``dyed`` it works on optical densities, in which the stains of a smear add up (Ruifrok and Johnston 2001).
    """

    matrix: Tensor
    offset: Tensor
    dyed: bool

    @classmethod
    def between(cls, new: CellSet, known: CellSet) -> "Recolour":
        """The map from the colours of ``new`` to those of ``known``; sets of three channels are taken for stained RGB.

        Raises:
            InputError: when the two have other channels.
        """
        if new.info.channels != known.info.channels:
            raise InputError(
                f"colour: {new.path} has channels {', '.join(new.info.channels)}, {known.path} "
                f"{', '.join(known.info.channels)}; give a set of the same channels"
            )
        dyed = new.channels == 3
        (mean_a, a), (mean_b, b) = (_moments(cellset, dyed=dyed) for cellset in (new, known))
        root = np.real(sqrtm(a))
        inverse = np.linalg.pinv(root, hermitian=True)
        matrix = inverse @ np.real(sqrtm(root @ b @ root)) @ inverse
        offset = mean_b - matrix @ mean_a
        return cls(torch.from_numpy(matrix).float(), torch.from_numpy(offset).float(), dyed)

    def __call__(self, x: Tensor) -> Tensor:
        """Recolour ``(B, C, H, W)`` float32 in [0, 1]."""
        y = torch.einsum("dc,bchw->bdhw", self.matrix.to(x.device), _density(x) if self.dyed else x)
        y = y + self.offset.to(x.device)[:, None, None]
        return ((-y).exp() if self.dyed else y).clamp(0.0, 1.0)


def _density(x: Tensor) -> Tensor:
    """Optical densities of intensities in [0, 1]."""
    return -x.clamp_min(_DARKEST).log()


def _moments(cellset: CellSet, *, dyed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``(C,)`` and covariance ``(C, C)`` of the colours of at most 4,000 cells, evenly chosen."""
    rows = np.unique(np.linspace(0, len(cellset) - 1, min(len(cellset), _MOST_CELLS)).astype(int))
    plain = Preprocess(_SIDE, cellset.info.intensity, (0.0,) * cellset.channels, (1.0,) * cellset.channels)
    colours = []
    for part in np.array_split(rows, -(-len(rows) // 500)):
        x = plain(torch.from_numpy(cellset.read(part)))
        colours.append((_density(x) if dyed else x).movedim(1, -1).reshape(-1, cellset.channels).double().numpy())
    every = np.concatenate(colours)
    return every.mean(axis=0), np.atleast_2d(np.cov(every, rowvar=False))
