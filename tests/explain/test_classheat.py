from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.fit import fit
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.readout import Readout
from leukoscope.explain.classheat import class_heat
from leukoscope.explain.gradcam import grad_cam
from leukoscope.probes.crossval import ProbeSettings

ROWS = np.array([5, 0, 8])


@pytest.fixture
def labelled(write_cells: Callable[..., CellSet]) -> CellSet:
    """Discs of three sizes, thirty cells."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32] - 15.5
    kinds = np.arange(30) % 3
    discs = 120 * (np.hypot(x, y) < np.array([4, 8, 12])[kinds][:, None, None])
    pixels = (60 + discs + random.normal(0, 8, discs.shape)).clip(0, 255).astype(np.uint8)[:, None]
    return write_cells(pixels, label=[f"kind {kind}" for kind in kinds])


def fitted(cells: CellSet, encoder: Encoder, out: Path, head: str, stages: int = 1) -> Classifier:
    features = embed(cells, encoder, device="cpu", readout=Readout(stages=stages))
    settings = ProbeSettings.parse({"heads": {"mlp": {"epochs": 3}}, "device": "cpu"}, where="test")
    return fit(features, out, head=head, n_folds=3, settings=settings)


def test_a_linear_classifier_is_explained_as_its_weights_are(labelled: CellSet, tmp_path: Path) -> None:
    encoder = random_encoder("resnet18", labelled, size=64, seed=0)
    classifier = fitted(labelled, encoder, tmp_path / "classifier", "linear", stages=2)
    found = class_heat(encoder, labelled, ROWS, classifier, device="cpu")
    state = classifier.head.state()
    head = nn.Linear(state["weight"].shape[1], 3)
    head.load_state_dict(state)
    features = embed(labelled.select(ROWS), encoder, device="cpu", readout=Readout(stages=2))
    np.testing.assert_allclose(found.probabilities, classifier.probabilities(features.x), atol=1e-4)
    expected = grad_cam(encoder, labelled, ROWS, head, found.probabilities.argmax(axis=1), stages=2, device="cpu")
    np.testing.assert_allclose(found.heat, expected, atol=1e-4)


def test_logits_are_what_the_probabilities_are_made_of(labelled: CellSet, tmp_path: Path) -> None:
    encoder = random_encoder("resnet18", labelled, size=32, seed=0)
    for head in ("linear", "mlp"):
        classifier = fitted(labelled, encoder, tmp_path / head, head)
        x = torch.from_numpy(embed(labelled, encoder, device="cpu").x)
        logits = classifier.head.logits(x)
        torch.testing.assert_close(logits.softmax(dim=1), classifier.head.probabilities(x))
        heat = class_heat(encoder, labelled, ROWS, classifier, device="cpu").heat
        assert heat.shape == (3, 32, 32)
        assert heat.max() > 0


def test_another_encoders_classifier_is_refused(labelled: CellSet, tmp_path: Path) -> None:
    classifier = fitted(labelled, random_encoder("resnet18", labelled, size=32, seed=0), tmp_path / "c", "linear")
    with pytest.raises(InputError, match="fitted on features of another encoder"):
        class_heat(random_encoder("resnet18", labelled, size=32, seed=1), labelled, ROWS, classifier, device="cpu")
