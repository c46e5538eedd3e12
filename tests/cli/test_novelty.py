from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.encoders.features import Features


def test_an_area_and_its_interval_are_printed_in_one_unit(
    tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = np.arange(300) % 3
    x = 3 * np.eye(6)[kinds] + np.random.default_rng(0).normal(size=(300, 6))
    cells = pd.DataFrame({"cell_id": [f"c{i}" for i in range(300)], "label": np.array(list("ABC"))[kinds]})
    Features(x.astype(np.float32), cells).write(tmp_path / "e.h5ad")
    assert leukoscope("novelty", tmp_path / "e.h5ad", tmp_path / "run", "--leave-out", "C") == 0
    area, low, high = capsys.readouterr().out.splitlines()[1].split()[3:6]
    assert 0 < float(low.strip("[,")) <= float(area) <= float(high.strip("]")) <= 1
