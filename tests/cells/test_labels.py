from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.labels import Labels
from leukoscope.common.errors import InputError

ODD = ["NA", "None", "nan", "null", "N/A", "007", "1.0"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_classes_and_reviewers_come_back_whatever_they_are_called(tmp_path: Path, suffix: str) -> None:
    ids = np.array([*ODD, "unlabelled"], dtype=object)
    table = pd.DataFrame({"cell_id": ids, "label": [*ODD, None], "reviewer": [*ODD, None]})
    Labels(table).write(tmp_path / f"labels{suffix}")
    again = Labels.read(tmp_path / f"labels{suffix}")
    assert list(again.of(ids)) == [*ODD, None]
    assert list(again.table["reviewer"].dropna()) == ODD


def test_an_empty_label_is_none_and_the_last_row_of_a_cell_counts(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("cell_id,label\na,NEU\nb,\na,LYM\n")
    assert list(Labels.read(tmp_path / "labels.csv").of(np.array(["a", "b", "c"]))) == ["LYM", None, None]


def test_what_lacks_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("cell_id,kind\na,NEU\n")
    with pytest.raises(InputError, match=r"labels\.csv: labels need the columns cell_id and label; missing: label"):
        Labels.read(tmp_path / "labels.csv")
