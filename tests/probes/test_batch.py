import numpy as np
import pandas as pd
import pytest

from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features
from leukoscope.probes.batch import batch_probe

N = 400


def cells(shown: float, *, share: float = 0.5) -> tuple[Features, np.ndarray]:
    """Two classes and two batches; of class NEU a ``share`` is from the first batch, of LYM the rest."""
    rng = np.random.default_rng(0)
    truth = np.arange(N) % 2
    first = rng.random(N) < np.where(truth == 1, share, 1 - share)
    x = rng.normal(size=(N, 5))
    x[:, 0] += 4 * truth
    x[:, 1] += shown * first
    table = pd.DataFrame({"cell_id": [f"c{i}:x" for i in range(N)], "batch": np.where(first, "B1", "B2")})
    return Features(x.astype(np.float32), table), np.array(["LYM", "NEU"], dtype=object)[truth]


def test_features_that_show_the_batch_tell_it_and_others_do_not() -> None:
    shown, labels = cells(4.0)
    hidden, _ = cells(0.0)
    found = batch_probe({"shown": shown, "hidden": hidden}, labels, "batch", n_bootstrap=100)
    assert found["encoders"]["shown"]["balanced_accuracy"]["low"] > 0.9
    assert found["encoders"]["hidden"]["balanced_accuracy"]["high"] < 0.6
    assert found["from_label"] < 0.6
    assert found["label_from_batch"] < 0.6


def test_the_class_tells_the_batch_where_classes_are_spread_unevenly() -> None:
    """Nine in ten: either tells the other that well, and features that show the class alone reach no more."""
    hidden, labels = cells(0.0, share=0.9)
    found = batch_probe({"hidden": hidden}, labels, "batch", n_bootstrap=0)
    exact = float(((hidden.cells["batch"] == "B1").to_numpy() == (labels == "NEU")).mean())
    assert found["label_from_batch"] == pytest.approx(exact, abs=1e-9)
    assert found["from_label"] == pytest.approx(exact, abs=1e-9)
    assert abs(found["encoders"]["hidden"]["accuracy"]["mean"] - exact) < 0.04
    assert found["majority"] < 0.6
    assert found["label_majority"] == pytest.approx(0.5, abs=0.03)


def test_rare_values_and_unlabelled_cells_take_no_part_and_faults_are_named() -> None:
    features, labels = cells(1.0)
    features.cells.loc[:1, "batch"] = "rare"
    labels[10:20] = None
    found = batch_probe({"e": features}, labels, "batch", n_bootstrap=0)
    assert set(found["values"]) == {"B1", "B2"}
    assert sum(found["values"].values()) == N - 12
    with pytest.raises(InputError, match="--database slide: no such column"):
        batch_probe({"e": features}, labels, "slide")
    features.cells["batch"] = "one"
    with pytest.raises(InputError, match="--database batch: 1 values of 5 cells or more; two are needed"):
        batch_probe({"e": features}, labels, "batch")
