from pathlib import Path

import numpy as np
from PIL import Image

from leukoscope.probes.evaluate import evaluate
from leukoscope.report.evaluation import Evaluation
from leukoscope.report.heat import _fold, draw_heat


def test_the_head_under_the_heat_is_the_evaluations_own(cellset, features, tmp_path: Path):
    evaluate(features, tmp_path / "run", heads=("linear",), n_folds=3, n_bootstrap=0, group="none")
    evaluation = Evaluation.open(tmp_path / "run")
    fold = _fold(evaluation, "moco", features["moco"], cellset)
    rows = evaluation.predictions
    rows = rows[rows["fold"] == 0].set_index("cell_id").loc[cellset.ids[fold.test]]
    expected = rows[[f"p_{name}" for name in evaluation.classes]].to_numpy()
    np.testing.assert_allclose(fold.probabilities, expected, atol=0.01)


def test_heat_is_drawn_only_on_cells_that_the_head_never_saw(run, cellset, features, encoders, tmp_path: Path):
    evaluation = Evaluation.open(run)
    fold = _fold(evaluation, "moco", features["moco"], cellset)
    trained = evaluation.folds[(evaluation.folds["fold"] == 0) & (evaluation.folds["role"] == "train")]
    assert not set(cellset.ids[fold.test]) & set(trained["cell_id"])
    picture = draw_heat(evaluation, "moco", encoders["moco"], features["moco"], cellset, tmp_path)
    pixels = np.asarray(Image.open(tmp_path / picture.file).convert("RGB"), dtype=int)
    assert (np.ptp(pixels, axis=2) > 60).mean() > 0.005  # grey cells: what has colour is heat
    assert "channel ch0" in picture.caption


def test_without_folds_nothing_is_drawn(run, cellset, features, encoders, tmp_path: Path):
    for name in ("results.json", "predictions.parquet"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    evaluation = Evaluation.open(tmp_path)
    assert draw_heat(evaluation, "moco", encoders["moco"], features["moco"], cellset, tmp_path) is None
