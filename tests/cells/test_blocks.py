import pandas as pd
import pytest

from leukoscope.cells.blocks import blocks_of
from leukoscope.common.errors import InputError


def test_a_duplicate_shared_by_two_patients_keeps_both_together() -> None:
    cells = pd.DataFrame(
        {
            "cell_id": ["1:a#0", "2:a#1", "2:a#2", "3:b#0", "4:c#0", "5:d#0"],
            "patient": ["P1", "P1", "P2", "P2", "P3", None],
        }
    )
    assert len(set(blocks_of(cells, "patient")[:4])) == 1
    assert len(set(blocks_of(cells, "patient"))) == 3
    assert len(set(blocks_of(cells))) == 5


def test_a_missing_group_column_is_named() -> None:
    with pytest.raises(InputError, match="--group donor: no such column"):
        blocks_of(pd.DataFrame({"cell_id": ["1:a#0"]}), "donor")
