from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.classify import refuse_misfit
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import embed
from leukoscope.explain.gradcam import grad_cam
from leukoscope.probes.linear import LinearHead
from leukoscope.probes.mlp import MLPHead


@dataclass(frozen=True)
class ClassHeat:
    """What a classifier says of cells, calibrated ``probabilities`` float64 ``(n, K)``, and where it sees it.

    ``heat`` float32 ``(n, H, W)`` is for the class predicted.
    """

    probabilities: np.ndarray
    heat: np.ndarray


def class_heat(
    encoder: Encoder,
    cellset: CellSet,
    rows: np.ndarray,
    classifier: Classifier,
    *,
    device: str = "auto",
    batch: int = 32,
) -> ClassHeat:
    """Where in each of the cells ``rows`` the evidence for the class lies that a fitted classifier predicts.

    Features are read as the classifier's were; of one that averages over flips, heat is that of the cell as it stands.

    Raises:
        InputError: when the classifier was fitted on another encoder, other channels, bit depth or field.
    """
    refuse_misfit(cellset, encoder, classifier)
    readout = classifier.info.readout
    features = embed(cellset.select(np.asarray(rows)), encoder, batch=batch, device=device, readout=readout)
    probabilities = classifier.probabilities(features.x)
    head, targets = _Logits(classifier), probabilities.argmax(axis=1)
    heat = grad_cam(encoder, cellset, rows, head, targets, stages=readout.stages, device=device, batch=batch)
    return ClassHeat(probabilities, heat)


class _Logits(nn.Module):
    """The head of a classifier as a module, whose tensors move with it."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        head = classifier.head
        assert isinstance(head, LinearHead | MLPHead)  # the kinds that a bundle may hold
        self._from_state = type(head).from_state
        self._names = tuple(head.state())
        for number, tensor in enumerate(head.state().values()):
            self.register_buffer(f"tensor{number}", tensor)

    def forward(self, x: Tensor) -> Tensor:
        return self._from_state(dict(zip(self._names, self.buffers(), strict=True))).logits(x)
