import pandas as pd
import pytest

from leukoscope.cells.agreement import agreed
from leukoscope.common.errors import InputError

EXPERTS = ["expert_1", "expert_2", "expert_3"]


def opinions():
    rows = [
        ("all", "NEU", "NEU", "NEU"),
        ("two", "LYM", None, "LYM"),
        ("one", None, "MON", None),
        ("split", "NEU", "LYM", "NEU"),
        ("none", None, None, " "),
    ]
    return pd.DataFrame(rows, columns=["path", *EXPERTS])


def test_two_experts_that_agree_are_enough_and_one_that_does_not_is_too_many():
    kept = agreed(opinions(), EXPERTS, 2, where="t.csv", pattern="expert_*")
    assert kept["path"].tolist() == ["all", "two"]
    assert kept["label"].tolist() == ["NEU", "LYM"]
    assert kept["n_experts"].tolist() == [3, 2]


def test_one_expert_or_more_as_for_a_training_set():
    kept = agreed(opinions(), EXPERTS, 1, where="t.csv", pattern="expert_*")
    assert kept["path"].tolist() == ["all", "two", "one"]
    assert kept.columns.tolist() == ["path", *EXPERTS, "label", "n_experts"]


def test_too_few_columns_are_named():
    with pytest.raises(
        InputError, match=r"t\.csv: --agree 2 needs as many columns named expert_\*, found 1; .*--experts"
    ):
        agreed(opinions(), ["expert_1"], 2, where="t.csv", pattern="expert_*")


def test_no_agreement_at_all_is_an_error():
    table = opinions().iloc[3:]
    with pytest.raises(InputError, match="no row has 2 experts that agree"):
        agreed(table, EXPERTS, 2, where="t.csv", pattern="expert_*")


def test_a_label_that_is_there_already_is_not_overwritten():
    table = opinions().assign(label="x")
    with pytest.raises(InputError, match="--agree sets the column label, which is there already"):
        agreed(table, EXPERTS, 2, where="t.csv", pattern="expert_*")
