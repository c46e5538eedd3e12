import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features
from leukoscope.probes.shift import shift
from leukoscope.report.shifted import Shifted, drop_table
from leukoscope.report.shifted_page import write_shift_report

KINDS = np.array(["LYM", "MON", "NEU"])


def features(name: str, n: int, *, noise: float, seed: int) -> Features:
    truth = np.arange(n) % 3
    x = 3 * np.eye(6)[truth] + noise * np.random.default_rng(seed).normal(size=(n, 6))
    cells = pd.DataFrame({"cell_id": [f"{name}{i}:{i}" for i in range(n)], "label": KINDS[truth]})
    return Features(x.astype(np.float32), cells, {"method": "random"})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    known = {name: features("k", 90, noise=1.0, seed=0) for name in ("moco", "random")}
    near, far = (features("n", 60, noise=noise, seed=1) for noise in (1.0, 3.0))
    out = tmp_path_factory.mktemp("shift") / "run"
    new = {"moco": {"": near}, "random": {"": far, "colour": near}}
    shift(known, new, out, heads=("linear", "knn-5"), n_folds=3, n_bootstrap=50, task="elsewhere")
    return out


def test_the_page_shows_every_drop_and_needs_nothing_else(run: Path) -> None:
    text = write_shift_report(run, title="From here to there").read_text()
    assert "From here to there" in text
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]+"', text)
    assert (run / "figures" / "drop.svg").is_file()
    assert len(list((run / "figures").glob("confusion-*.svg"))) == 2
    found = json.loads((run / "results.json").read_text())["drop"]["random + colour"]["knn-5"]["accuracy"]
    assert f"{found['drop']:+.3f}" in text


def test_rows_go_from_the_best_encoder_on_new_cells_each_with_its_remedies(run: Path) -> None:
    table = drop_table(Shifted.open(run), "accuracy")
    assert [group.title for group in table.groups] == ["linear", "knn-5"]
    told = [(row[0].text, row[1].text) for row in table.groups[0].rows]
    assert told == [("moco", "as they come"), ("random", "as they come"), ("random", "colour")]


def test_without_resamples_there_are_no_intervals_and_still_a_page(tmp_path: Path) -> None:
    near, far = features("k", 30, noise=1.0, seed=0), features("n", 30, noise=2.0, seed=1)
    shift({"moco": near}, {"moco": {"": far}}, tmp_path / "run", heads=("knn-5",), n_folds=2, n_bootstrap=0)
    assert write_shift_report(tmp_path / "run").is_file()


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a finished run of leukoscope shift"):
        write_shift_report(tmp_path)
