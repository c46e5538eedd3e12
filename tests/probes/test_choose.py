import pandas as pd
import pytest

from leukoscope.common.errors import InputError
from leukoscope.probes.choose import as_chosen, choose_encoders


@pytest.fixture
def tried() -> pd.DataFrame:
    """Encoder a is better inside fold 0, b inside fold 1; the k-NN head would say otherwise."""
    rows = [
        ("a", "linear", 0, 0.1, 0.30),
        ("a", "linear", 0, 1.0, 0.50),
        ("b", "linear", 0, 0.1, 0.40),
        ("a", "linear", 1, 0.1, 0.35),
        ("b", "linear", 1, 1.0, 0.20),
        ("b", "knn", 0, None, 0.01),
        ("c", "linear", 0, 0.1, 0.01),
    ]
    table = pd.DataFrame(rows, columns=["encoder", "head", "fold", "C", "log_loss"])
    # As where the tables of several encoders were put together: the index says nothing.
    return table.assign(repeat=0, seed=0, accuracy=0.9).set_index(pd.Index([0] * len(table)))


def test_each_fold_takes_the_encoder_best_inside_its_training_cells(tried: pd.DataFrame) -> None:
    chosen = choose_encoders(tried, ["a", "b"])
    assert list(chosen["encoder"]) == ["a", "b"]
    assert list(chosen["log_loss"]) == [0.30, 0.20]


def test_encoders_that_are_no_candidates_cannot_be_chosen(tried: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="needs several values of C"):
        choose_encoders(tried, ["d"])


def test_the_chosen_encoder_predicts_each_cell_once_a_head(tried: pd.DataFrame) -> None:
    cells = pd.DataFrame({"cell_id": ["x", "y"], "repeat": 0, "fold": [0, 1]})
    predictions = pd.concat(
        [
            cells.assign(encoder=encoder, head=head, p_k=p)
            for p, encoder in enumerate("abc")
            for head in ("linear", "knn")
        ],
        ignore_index=True,
    )
    found = as_chosen(predictions, choose_encoders(tried, ["a", "b"]), "moco (chosen)")
    assert set(found["encoder"]) == {"moco (chosen)"}
    assert found.set_index(["cell_id", "head"])["p_k"].to_dict() == {
        ("x", "linear"): 0,
        ("x", "knn"): 0,
        ("y", "linear"): 1,
        ("y", "knn"): 1,
    }
