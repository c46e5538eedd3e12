import numpy as np
import pandas as pd
import pytest

from leukoscope.scores.metrics import METRICS, score
from leukoscope.scores.predictions import blocks_of, predictions
from leukoscope.scores.summary import summarise

CLASSES = ["a", "b", "c"]


def table(
    *, n: int = 240, seeds: int = 1, repeats: int = 1, heads: tuple[str, ...] = ("linear",), strength: float = 1.5
) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    truth = generator.integers(3, size=n)
    ids, tables = np.array([f"c{i}" for i in range(n)]), []
    for head in heads:
        for seed in range(seeds):
            for repeat in range(repeats):
                fold = (np.arange(n) + np.arange(n) // 4 * repeat) % 4
                logits = generator.normal(size=(n, 3))
                logits[np.arange(n), truth] += strength
                p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
                for f in range(4):
                    m = fold == f
                    labels = np.array(CLASSES)[truth[m]]
                    names = {"encoder": "e", "head": head, "seed": seed, "repeat": repeat, "fold": f}
                    tables.append(predictions(ids[m], labels, p[m], CLASSES, **names))
    return pd.concat(tables, ignore_index=True)


def test_folds_mean_and_sd_are_those_of_the_blocks() -> None:
    rows = table()
    blocks = pd.DataFrame([score(block) for _, block in blocks_of(rows)])
    found = summarise(rows, n_bootstrap=50).scores["e"]["linear"]
    assert list(found) == list(METRICS)
    for name in METRICS:
        assert found[name]["folds"] == pytest.approx(blocks[name].tolist())
        assert found[name]["mean"] == pytest.approx(blocks[name].mean())
        assert found[name]["sd"] == pytest.approx(blocks[name].std())
        assert found[name]["low"] <= found[name]["mean"] <= found[name]["high"]


def test_seeds_are_averaged_and_repeats_lengthen_the_folds() -> None:
    rows = table(seeds=3, repeats=2)
    blocks = pd.DataFrame(
        [
            {**dict(zip(("seed", "repeat", "fold"), key[2:], strict=True)), **score(block)}
            for key, block in blocks_of(rows)
        ]
    )
    expected = blocks.groupby(["repeat", "fold"])["f1_macro"].mean()
    assert summarise(rows, n_bootstrap=0).scores["e"]["linear"]["f1_macro"]["folds"] == pytest.approx(expected.tolist())


def test_intervals_of_groups_are_wider_when_groups_differ() -> None:
    rows = table(n=240)
    right = rows[[f"p_{c}" for c in CLASSES]].to_numpy().argmax(axis=1) == rows["label"].map(CLASSES.index)
    # Patients of ten cells, sorted by whether their cells are recognised: some patients are easy, others are not.
    patient = right.rank(method="first").astype(int) // 10
    groups = dict(zip(rows["cell_id"], patient.astype(str), strict=True))
    cells = summarise(rows, n_bootstrap=300).scores["e"]["linear"]["accuracy"]
    patients = summarise(rows, n_bootstrap=300, groups=groups).scores["e"]["linear"]["accuracy"]
    assert patients["mean"] == cells["mean"]
    assert patients["high"] - patients["low"] > 1.5 * (cells["high"] - cells["low"])


def test_the_seed_of_the_resamples_decides() -> None:
    rows = table(n=120)
    one, same, other = (summarise(rows, n_bootstrap=50, seed=seed).scores for seed in (1, 1, 2))
    assert one == same != other


def test_a_class_that_is_missing_from_a_fold_or_everywhere_stays_defined() -> None:
    rows = table(n=80)
    rows = rows[(rows["label"] != "c") | (rows["fold"] == 0)].assign(p_d=np.float32(0))
    summary = summarise(rows, n_bootstrap=20)
    found = summary.scores["e"]["linear"]
    assert all(value is not None for value in found["roc_auc_macro"]["folds"])
    per_class = summary.per_class.set_index("class")
    assert per_class.loc["d", "support"] == 0
    assert pd.isna(per_class.loc["d", "f1"])
    assert per_class.loc["c", "support"] == (rows["label"] == "c").sum()


def test_no_resamples_leave_intervals_undefined() -> None:
    found = summarise(table(n=60), n_bootstrap=0).scores["e"]["linear"]["accuracy"]
    assert found["low"] is None
    assert found["high"] is None


def test_per_class_rows_are_one_against_the_rest() -> None:
    rows = table(heads=("linear", "mlp"))
    summary = summarise(rows, n_bootstrap=30)
    assert summary.per_class[["head", "class"]].value_counts().eq(1).all()
    linear = summary.per_class.query("head == 'linear'")
    assert linear["recall"].mean() == pytest.approx(summary.scores["e"]["linear"]["recall_macro"]["mean"])
    assert (linear["roc_auc_low"] <= linear["roc_auc"]).all()
    assert (linear["roc_auc"] <= linear["roc_auc_high"]).all()
