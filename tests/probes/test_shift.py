import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features
from leukoscope.probes.evaluate import evaluate
from leukoscope.probes.shift import shift
from leukoscope.scores import predictions as predictions_file

KINDS = np.array(["EOS", "LYM", "MON", "NEU"])
QUICK = {"n_folds": 3, "n_bootstrap": 50, "heads": ("linear",)}


def features(name: str, kinds: list[int], n: int, *, moved: float = 0.0, seed: int = 0) -> Features:
    """Cells of ``kinds``, apart along the first axes; ``moved`` carries them over from one kind towards the next."""
    rng = np.random.default_rng(seed)
    truth = np.array(kinds)[np.arange(n) % len(kinds)]
    x = 3 * np.eye(6)[truth] + moved * np.eye(6)[(truth + 1) % 4] + rng.normal(size=(n, 6))
    cells = pd.DataFrame({"cell_id": [f"{name}{i}:{i}" for i in range(n)], "label": KINDS[truth]})
    return Features(x.astype(np.float32), cells, {"method": "random"})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    known = {name: features("k", [0, 1, 2], 120) for name in ("moco", "random")}
    moved, seen = (features("n", [1, 2, 3], 90, moved=by, seed=1) for by in (3.5, 0.0))
    new = {"moco": {"": moved, "colour": seen}, "random": {"": seen}}
    out = tmp_path_factory.mktemp("shift") / "run"
    shift(known, new, out, **QUICK)
    return out


def test_only_common_classes_take_part_and_the_others_are_told(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    assert results["classes"] == ["LYM", "MON"]
    assert results["left_out"] == {"known": {"EOS": 40}, "new": {"NEU": 30}}
    assert results["n"] == {"known": 80, "new": 60}
    assert results["shared_cells"] == 0


def test_cells_that_are_in_both_sets_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cells = features("k", [0, 1], 60)
    with caplog.at_level("WARNING", logger="leukoscope"):
        shift({"e": cells}, {"e": {"": cells}}, tmp_path / "run", **QUICK)
    assert "60 images are among the known and the new cells" in caplog.text


def test_known_cells_are_scored_as_an_evaluation_scores_them(run: Path, tmp_path: Path) -> None:
    """The same heads and folds: what is said of known cells does not depend on the new ones."""
    whole = features("k", [0, 1, 2], 120)
    keep = whole.cells["label"].isin(["LYM", "MON"]).to_numpy()
    evaluate({name: whole.select(keep) for name in ("moco", "random")}, tmp_path / "run", **QUICK)
    keys = ["encoder", "repeat", "fold", "cell_id"]
    alone, across = (
        predictions_file.read(path).sort_values(keys)[[*keys, "label"]].reset_index(drop=True)
        for path in (tmp_path / "run" / "predictions.parquet", run / "known.predictions.parquet")
    )
    pd.testing.assert_frame_equal(alone, across)
    known = json.loads((run / "results.json").read_text())["scores"]["known"]["moco"]["linear"]
    evaluated = json.loads((tmp_path / "run" / "results.json").read_text())["scores"]["moco"]["linear"]
    assert known["accuracy"]["mean"] == pytest.approx(evaluated["accuracy"]["mean"], abs=0.03)


def test_moved_cells_are_told_worse_and_the_remedy_helps(run: Path) -> None:
    drop = json.loads((run / "results.json").read_text())["drop"]
    plain, remedied = (drop[name]["linear"]["accuracy"] for name in ("moco", "moco + colour"))
    assert plain["low"] > 0.1
    assert remedied["drop"] < 0.05
    new = predictions_file.read(run / "new.predictions.parquet")
    assert new.groupby(["encoder", "repeat"]).size().to_dict() == {
        (name, repeat): 60 for name in ("moco", "moco + colour", "random") for repeat in range(3)
    }
    assert set(new["cell_id"]) <= set(features("n", [1, 2, 3], 90).ids)
    assert pd.read_csv(run / "tables" / "drop.csv").query("metric == 'ece'").shape[0] == 3


def test_classes_may_be_named(tmp_path: Path) -> None:
    known = {"moco": features("k", [0, 1, 2], 90)}
    new = {"moco": {"": features("n", [0, 1, 2], 60, seed=1)}}
    results = shift(known, new, tmp_path / "run", classes=["MON", "EOS"], **QUICK)
    assert results["classes"] == ["EOS", "MON"]
    assert results["left_out"] == {"known": {"LYM": 30}, "new": {"LYM": 20}}


def test_labels_of_new_cells_have_no_say(run: Path, tmp_path: Path) -> None:
    known = {"moco": features("k", [0, 1, 2], 120)}
    turned = features("n", [1, 2, 3], 90, moved=3.5, seed=1)
    turned.cells["label"] = turned.cells["label"].replace({"LYM": "MON", "MON": "LYM"})
    shift(known, {"moco": {"": turned}}, tmp_path / "run", **QUICK)
    said = [
        table[table["encoder"] == "moco"].set_index(["repeat", "cell_id"])["p_LYM"].sort_index()
        for table in map(
            predictions_file.read, (run / "new.predictions.parquet", tmp_path / "run" / "new.predictions.parquet")
        )
    ]
    np.testing.assert_allclose(said[0], said[1], atol=1e-6)


def test_what_does_not_fit_is_told_in_one_line(tmp_path: Path) -> None:
    known = {"moco": features("k", [0, 1], 40)}
    with pytest.raises(InputError, match="known cells have classes EOS, LYM, new ones MON, NEU; at least two"):
        shift(known, {"moco": {"": features("n", [2, 3], 40)}}, tmp_path / "a")
    both = {"": features("n", [0, 1], 40)}
    with pytest.raises(InputError, match="shift: class 'MON' is not in both sets; they share EOS, LYM"):
        shift(known, {"moco": both}, tmp_path / "c", classes=["EOS", "MON"])
    with pytest.raises(InputError, match="known cells have encoders moco, new cells random; embed both"):
        shift(known, {"random": {"": features("n", [0, 1], 40)}}, tmp_path / "b")
