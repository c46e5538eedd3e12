import numpy as np
import pandas as pd
import pytest

from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features
from leukoscope.probes.sanity import sanity_test

KINDS = np.array(["hairy", "LYM", "NEU"], dtype=object)
WHERE = {"database": "batch", "suspect": "hairy", "home": "new"}


def cells(*, database: float, kind: float, n: int = 360) -> tuple[Features, np.ndarray]:
    """Half of each kind from either database; features show the database and the kind, each so strongly."""
    rng = np.random.default_rng(0)
    truth, new = np.arange(n) % 3, np.arange(n) % 2 == 0
    x = rng.normal(size=(n, 6))
    x[np.arange(n), truth] += kind
    x[:, 4] += database * new
    table = pd.DataFrame({"cell_id": [f"c{i}:x" for i in range(n)], "batch": np.where(new, "new", "old")})
    return Features(x.astype(np.float32), table), KINDS[truth]


def test_features_that_show_the_database_fail_until_other_classes_come_from_it_too() -> None:
    features, labels = cells(database=12.0, kind=2.0)
    content, table = sanity_test({"e": features}, labels, **WHERE)
    ab, abc = (content["scores"][training]["e"]["linear"] for training in ("A+B", "A+B+C"))
    assert ab["A"]["accuracy"] > 0.95
    assert ab["C"]["accuracy"] < 0.3
    assert ab["D"]["accuracy"] < 0.2
    assert abc["C"]["accuracy"] > ab["C"]["accuracy"] + 0.4
    assert content["counts"]["A"] == {"LYM": 0, "NEU": 0, "hairy": 60}
    assert {name: scores["n"] for name, scores in ab.items()} == {"A": 60, "B": 120, "C": 120, "D": 60}
    assert len(table) == 2 * 360


def test_features_that_show_the_cell_pass_either_way() -> None:
    features, labels = cells(database=0.0, kind=5.0)
    scores = sanity_test({"e": features}, labels, **WHERE)[0]["scores"]
    assert all(each["accuracy"] > 0.9 for training in scores.values() for each in training["e"]["linear"].values())


def test_without_cells_of_the_class_elsewhere_d_is_left_out() -> None:
    features, labels = cells(database=12.0, kind=3.0)
    keep = ~((labels == "hairy") & (features.cells["batch"] == "old").to_numpy())
    scores = sanity_test({"e": features.select(keep)}, labels[keep], **WHERE)[0]["scores"]
    assert set(scores["A+B"]["e"]["linear"]) == {"A", "B", "C"}


def test_what_is_missing_is_named() -> None:
    features, labels = cells(database=1.0, kind=1.0)
    with pytest.raises(InputError, match="--database slide: no such column; the table has cell_id, batch"):
        sanity_test({"e": features}, labels, **{**WHERE, "database": "slide"})
    with pytest.raises(InputError, match="--class hairier: no cell has this label; there are "):
        sanity_test({"e": features}, labels, **{**WHERE, "suspect": "hairier"})
    with pytest.raises(InputError, match="--home newest: no cell has this batch; there are new, old"):
        sanity_test({"e": features}, labels, **{**WHERE, "home": "newest"})
