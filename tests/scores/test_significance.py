import numpy as np
import pandas as pd
import pytest
from scipy import stats

from leukoscope.scores.significance import compare, holm, t_test

A = np.array([0.92, 0.95, 0.91, 0.94, 0.93])
B = np.array([0.90, 0.91, 0.92, 0.90, 0.91])


def test_paired_t_is_that_of_scipy() -> None:
    assert t_test(A - B) == pytest.approx(stats.ttest_rel(A, B).pvalue, rel=1e-9)


def test_corrected_t_follows_nadeau_and_bengio() -> None:
    d, n_train, n_test = A - B, 80, 20
    t = d.mean() / np.sqrt((1 / 5 + n_test / n_train) * d.var(ddof=1))
    assert t_test(d, test_to_train=n_test / n_train) == pytest.approx(2 * stats.t.sf(t, 4))
    assert t_test(d, test_to_train=0.25) > t_test(d)


def test_equal_scores_differ_by_chance_for_certain() -> None:
    assert t_test(np.zeros(5)) == 1.0
    assert t_test(np.full(5, 0.25)) == 0.0


def test_holm_of_a_known_example() -> None:
    # Wright 1992 (Biometrics 48:1005-1013): 0.01, 0.03, 0.04, 0.005 become 0.03, 0.06, 0.06, 0.02.
    assert holm([0.01, 0.03, 0.04, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def scores(**folds: list[float | None]) -> dict:
    found: dict = {}
    for name, values in folds.items():
        encoder, head = name.split("__")
        found.setdefault(encoder, {})[head] = {"accuracy": {"folds": values}}
    return found


FOLDS = pd.DataFrame({"cell_id": range(10), "role": ["test"] * 2 + ["train"] * 8, "fold": 0, "repeat": 0})


def test_heads_encoders_and_supervised_networks_are_compared() -> None:
    four = scores(
        moco__linear=A.tolist(), moco__mlp=B.tolist(), random__linear=B.tolist(), supervised__resnet18=A.tolist()
    )
    rows = pd.DataFrame(compare(four, FOLDS, ["accuracy"]))
    pairs = set(zip(rows["a"], rows["b"], strict=True))
    assert pairs == {
        ("moco/linear", "moco/mlp"),
        ("moco/linear", "random/linear"),
        ("moco/linear", "supervised/resnet18"),
        ("moco/mlp", "supervised/resnet18"),
        ("random/linear", "supervised/resnet18"),
    }
    assert set(rows["test"]) == {"paired_t", "corrected_resampled_t"}
    first = rows[(rows["a"] == "moco/linear") & (rows["b"] == "moco/mlp")].set_index("test")
    assert first.loc["paired_t", "difference"] == pytest.approx((A - B).mean())
    assert first.loc["paired_t", "p"] == pytest.approx(stats.ttest_rel(A, B).pvalue)
    assert first.loc["corrected_resampled_t", "p"] == pytest.approx(t_test(A - B, test_to_train=0.25))
    for _, family in rows.groupby("test"):
        assert family["p_corrected"].tolist() == pytest.approx(holm(family["p"].tolist()))


def test_a_fold_in_which_one_is_undefined_is_left_out() -> None:
    pair = scores(e__x=[None, *A[1:].tolist()], e__y=B.tolist())
    row = compare(pair, FOLDS, ["accuracy"])[0]
    assert row["p"] == pytest.approx(stats.ttest_rel(A[1:], B[1:]).pvalue)
    assert compare(scores(e__x=[0.5], e__y=[0.6]), FOLDS, ["accuracy"]) == []
