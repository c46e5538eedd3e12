import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.fit import fit
from leukoscope.encoders.bundle import random_encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.readout import Readout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cells, an encoder of two kinds of weights, and a classifier fitted on one of them."""
    folder = tmp_path_factory.mktemp("made")
    cells = simulate(folder / "cells.set", cells=120, size=40, patients=10, classes=["LYM", "NEU"], jobs=1)
    for seed, name in enumerate(("encoder", "other")):
        encoder = random_encoder("test_resnet", cells, size=32, seed=seed)
        encoder.save(folder / name)
        if name == "encoder":
            features = embed(cells, encoder, device="cpu", readout=Readout(stages=2))
            features.write(folder / "f.h5ad")
            fit(features, folder / "classifier", n_folds=2)
    return folder


def test_a_classifier_travels_with_its_encoder(
    made: Path, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "e.onnx"
    words = ("--classifier", made / "classifier", "--cells", made / "cells.set", "--json")
    assert leukoscope("export", made / "encoder", out, *words) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out.splitlines()[-1])
    assert answer["features"] < 0.01
    assert answer["probabilities"] < 0.01
    assert "as ONNX; on 16 cells features differ from torch by up to" in printed.out
    cells = CellSet.open(made / "cells.set")
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    features, probabilities = session.run(None, {"pixels": cells.read(slice(None))})
    classifier = Classifier.load(made / "classifier")
    wanted = classifier.probabilities(
        embed(
            cells,
            random_encoder("test_resnet", cells, size=32),
            device="cpu",
            precision="fp32",
            readout=Readout(stages=2),
        ).x
    )
    assert features.shape == (120, classifier.info.feature_dim)
    np.testing.assert_allclose(probabilities, wanted, atol=1e-3)
    np.testing.assert_allclose(probabilities, classifier.probabilities(features), atol=1e-5)


def test_a_folder_for_timm(
    made: Path, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert leukoscope("export", made / "encoder", tmp_path / "folder") == 0
    assert "folder: test_resnet for timm; loaded by it, features differ by up to" in capsys.readouterr().out
    assert timm.create_model(f"local-dir:{tmp_path}/folder", pretrained=True).num_features > 0


def test_mistakes_end_with_one_line_and_code_2(
    made: Path, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = ("--classifier", made / "classifier")
    for encoder, out, words, message in [
        ("nowhere", "e.onnx", (), "nowhere: not an encoder bundle"),
        ("other", "e.onnx", classifier, "the classifier was fitted on features of another encoder"),
        ("encoder", "e.onnx", (*classifier, "--flips"), "it says itself how features are read; leave --flips"),
        ("encoder", "folder", classifier, "--stages are for ONNX; call it folder.onnx"),
    ]:
        assert leukoscope("export", made / encoder, tmp_path / out, *words) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "\n" not in error
        assert not (tmp_path / out).exists()
