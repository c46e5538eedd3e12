import json
from collections.abc import Callable
from pathlib import Path

import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.cells.spoiling.kinds import KINDS
from leukoscope.cli.spoil import _KINDS


def test_the_verb_says_how_many_of_each(
    tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    source = simulate(tmp_path / "cells.set", cells=120, size=32)
    words = ["--kinds", "noise,empty", "--grade", 0.5, 0.5, "--share", 0.3, "--json"]
    assert leukoscope("spoil", source.path, tmp_path / "x.set", *words) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = json.loads(lines[-1])["quality"]
    assert set(counts) == {"normal", "noise", "empty"}
    assert f"120 cells in {tmp_path / 'x.set'}: normal {counts['normal']}" in lines[0]
    assert set(CellSet.open(tmp_path / "x.set").cells["grade"]) == {0.0, 0.5, 1.0}
    assert leukoscope("spoil", source.path, tmp_path / "y.set", "--kinds", "blur") == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: spoil: kinds: no kind 'blur'")
    assert f"Of {', '.join(KINDS)};" in _KINDS
