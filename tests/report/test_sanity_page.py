import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.common.errors import InputError
from leukoscope.common.files import read_json
from leukoscope.encoders.features import Features
from leukoscope.probes.databases import sanity
from leukoscope.report.sanity_page import write_sanity_report


def features(*, seed: int) -> Features:
    """120 cells whose features show the batch far better than the kind."""
    truth, new = np.arange(120) % 3, np.arange(120) % 2 == 0
    x = np.random.default_rng(seed).normal(size=(120, 5))
    x[np.arange(120), truth] += 2
    x[:, 4] += 12 * new
    cells = pd.DataFrame(
        {"cell_id": [f"c{i}:x" for i in range(120)], "label": np.array(["hairy", "L<YM", "NEU"])[truth]}
    )
    return Features(x.astype(np.float32), cells.assign(batch=np.where(new, "new", "old")), {"method": "random"})


def test_the_page_shows_what_tells_the_batch_and_the_four_sets(tmp_path: Path) -> None:
    given = {"moco": features(seed=0), "random": features(seed=1)}
    asked = {"heads": ("linear", "knn-5"), "n_folds": 3, "n_bootstrap": 20}
    sanity(given, tmp_path / "run", database="batch", suspect="hairy", home="new", **asked)
    text = write_sanity_report(tmp_path / "run").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]+"', text)
    results = read_json(tmp_path / "run" / "results.json")
    for value in (
        results["batch"]["from_label"],
        results["sanity"]["scores"]["A+B"]["random"]["knn-5"]["C"]["accuracy"],
    ):
        assert f">{value:.3f}<" in text
    assert "hairy of new" in text
    assert "L&lt;YM" in text
    assert {each.name for each in (tmp_path / "run" / "figures").iterdir()} == {"batch.svg", "sanity.svg"}


def test_without_a_class_the_page_tells_of_the_batch_alone(tmp_path: Path) -> None:
    sanity({"moco": features(seed=0)}, tmp_path / "run", database="batch", n_folds=3, n_bootstrap=0)
    text = write_sanity_report(tmp_path / "run", title="Batches").read_text()
    assert "<h1>Batches</h1>" in text
    assert "The cell, or the database?" not in text
    assert [each.name for each in (tmp_path / "run" / "figures").iterdir()] == ["batch.svg"]


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a finished run of leukoscope sanity"):
        write_sanity_report(tmp_path)
