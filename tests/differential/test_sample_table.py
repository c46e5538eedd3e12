from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.common.errors import InputError
from leukoscope.differential.sample_table import read_sample_table
from leukoscope.encoders.features import Features

KINDS = ("LYM", "NEU")
HEAD = "cell_id,predicted,p_LYM,p_NEU,doubt,novelty,novel,set_aside"
ROWS = ("a#0,LYM,0.9,0.1,0.1,,False,", "b#0,NEU,0.2,0.8,0.2,0.5,False,blurred", "NA,NEU,0,1,0,,False,")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The table of a sample of three cells, with their features."""
    Features(np.eye(3, dtype=np.float32), pd.DataFrame({"cell_id": list("abc")})).write(tmp_path / "features.h5ad")
    return write(tmp_path, HEAD, *ROWS)


def write(run: Path, *lines: str) -> Path:
    (run / "cells.csv").write_text("".join(f"{line}\n" for line in lines))
    return run


def test_words_stay_words_and_what_is_not_known_is_no_number(run: Path) -> None:
    table = read_sample_table(run, KINDS)
    assert table["cell_id"].tolist() == ["a#0", "b#0", "NA"]
    assert table["set_aside"].tolist() == ["", "blurred", ""]
    assert table["novelty"].isna().tolist() == [True, False, True]
    (run / "features.h5ad").unlink()
    assert len(read_sample_table(run, KINDS)) == 3


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "No columns to parse from file"),
        ((HEAD, *ROWS[:2]), "it has 2 cells, and features.h5ad beside it 3"),
        ((HEAD, *ROWS[:2], "c#0,NEU,0.3"), "p_NEU is not a number in every row"),
        ((HEAD, *ROWS[:2], "c#0,MONO,0,1,0,,False,"), "row 2 was called 'MONO', which is none of the classes"),
        ((HEAD, *ROWS[:2], "c#0,NEU,,1,0,,False,"), "p_LYM is not a number in every row"),
        ((HEAD, *ROWS[:2], "c#0,NEU,0,1,none,,False,"), "doubt is not a number in every row"),
        ((HEAD, *ROWS[:2], "c#0,NEU,0,1,0,far,False,"), "novelty is not a number in every row"),
        ((HEAD.replace("p_NEU", "p_MONO"), *ROWS), "it has no column p_NEU"),
        ((HEAD, *ROWS[:2], ROWS[2] + ",more,and more"), "Error tokenizing data"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(run: Path, lines: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=rf"cells\.csv: damaged: {words}.*; classify the sample again$") as fault:
        read_sample_table(write(run, *lines), KINDS)
    assert "\n" not in str(fault.value)


def test_a_table_that_was_cut_within_its_last_row_is_refused(run: Path) -> None:
    whole = (run / "cells.csv").read_bytes()
    (run / "cells.csv").write_bytes(whole[: -len(",,False,\n")])
    with pytest.raises(InputError, match="it ends within a row"):
        read_sample_table(run, KINDS)


def test_a_table_beside_damaged_features_is_refused_in_one_line(run: Path) -> None:
    (run / "features.h5ad").write_bytes(b"not hdf5")
    with pytest.raises(InputError, match=r"features\.h5ad: not readable as \.h5ad"):
        read_sample_table(run, KINDS)
