import json
from pathlib import Path
from typing import Any

import pytest

from leukoscope.common.errors import InputError
from leukoscope.common.files import write_json
from leukoscope.differential.sample import Sample, SampleInfo

CLASS: dict[str, Any] = {"count": 1, "corrected_proportion": 0.5, "patient": [0.1, 0.9], "leukocytes": None}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A sample of two cells, as far as its tables go."""
    info = SampleInfo(
        classes=("LYM", "NEU"), cells="cells.set", pixels_fingerprint="p", encoder=None, encoder_fingerprint="e"
    )
    write_json(tmp_path / "sample.json", info.model_dump(mode="json"))
    write_json(tmp_path / "results.json", {})
    (tmp_path / "cells.csv").write_text(
        "cell_id,predicted,p_LYM,p_NEU,doubt,novelty,novel,set_aside\na,LYM,1,0,0,,False,\nb,NEU,0,1,0,,False,\n"
    )
    write_json(tmp_path / "differential.json", {"n": 2, "classes": {"LYM": CLASS, "NEU": CLASS}})
    return tmp_path


def test_a_whole_sample_tells_its_count(run: Path) -> None:
    sample = Sample.open(run)
    assert sample.predicted.tolist() == [0, 1]
    assert sample.differential["n"] == 2


def test_a_sample_with_a_damaged_table_is_not_opened(run: Path) -> None:
    (run / "cells.csv").write_text("")
    with pytest.raises(InputError, match=r"cells\.csv: damaged: No columns to parse from file; classify the sample"):
        Sample.open(run)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"a": 1}, "no count of LYM, NEU"),
        ({"n": 2, "classes": {"LYM": CLASS}}, "no count of LYM, NEU"),
        ({"n": 2, "classes": [CLASS, CLASS]}, "no count of LYM, NEU"),
        ({"classes": {"LYM": CLASS, "NEU": CLASS}}, "no count of LYM, NEU"),
        ({"n": 2, "classes": {"LYM": CLASS, "NEU": {"count": 1}}}, "NEU has no 'corrected_proportion'"),
        ({"n": 2, "classes": {"LYM": CLASS, "NEU": 1}}, "NEU has no 'count'"),
    ],
)
def test_a_damaged_count_is_refused_in_one_line(run: Path, told: Any, words: str) -> None:
    (run / "differential.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=rf"differential\.json: damaged: {words}; classify the sample again$"):
        Sample.open(run).differential  # noqa: B018
