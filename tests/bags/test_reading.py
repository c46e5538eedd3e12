from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from leukoscope.bags.abmil import ABMIL, ABMILSettings
from leukoscope.bags.bags import Bags, bags_of
from leukoscope.bags.reading import (
    SUSPECT,
    attention_by_kind,
    records,
    relative_attention,
    summarise_removal,
    summarise_stability,
)
from leukoscope.bags.removal import RemovalSettings, remove_cells
from leukoscope.bags.stability import stability
from leukoscope.bags.train import FittedBags, judge
from leukoscope.encoders.features import Features

Cohort = Callable[..., Features]


@pytest.fixture(scope="module")
def bags(make_cohort: Cohort) -> Bags:
    return bags_of(make_cohort(0.2, patients=8), kind="kind")


def looking_at(kind: int) -> FittedBags:
    """A model made by hand: attention lies on the cells of one kind, and so does the answer."""
    model = ABMIL(12, 2, ABMILSettings(attention=1, gated=False))
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        model.tanh.weight[0, kind] = 1.0
        model.tanh.bias[0] = -2.0
        model.score.weight[0, 0] = 8.0
        model.classify.weight[0, kind] = 4.0
        model.classify.bias[1] = 12.0
    return FittedBags(model, torch.zeros(12), torch.ones(12), 1, 0.0)


def test_without_the_cells_that_it_rests_on_the_answer_changes(bags: Bags) -> None:
    fitted, x = looking_at(4), torch.from_numpy(bags.features.x)
    which = np.arange(8)
    said, attention = judge(fitted, x, bags.rows(which))
    assert (said.argmax(dim=1).numpy() == (bags.labels == "healthy")).all()
    settings = RemovalSettings(share=0.25, draws=4)
    table = remove_cells(fitted, bags, x, which, said, attention or [], settings, np.random.default_rng(0))
    sick = (bags.labels == "AML")[which]
    assert (table["removed"] == (0.25 * bags.sizes).round()).all()
    assert (table.loc[sick, "changed_top"] == 1).all()
    assert (table.loc[sick, "changed_random"] == 0).all()
    assert (table.loc[sick, "without_top"] < 0.1).all()
    assert (table.loc[~sick, "changed_top"] == 0).all()
    told = summarise_removal(table.assign(encoder="e", head="abmil")).iloc[0]
    assert told["patients"] == 8
    assert told["loss_top"] == pytest.approx((table["whole"] - table["without_top"]).mean())
    assert told["changed_top"] == pytest.approx(0.5)


def test_a_bag_of_one_cell_cannot_be_judged_without_it(bags: Bags) -> None:
    one = Bags(bags.features.select(np.arange(1)), bags.names[:1], bags.labels[:1], bags.of[:1], bags.linked[:1])
    x = torch.from_numpy(one.features.x)
    fitted = looking_at(4)
    said, attention = judge(fitted, x, one.rows(np.arange(1)))
    rng = np.random.default_rng(0)
    assert remove_cells(fitted, one, x, np.arange(1), said, attention or [], RemovalSettings(), rng).empty


def test_agreement_of_rankings_is_spearmans_over_pairs(bags: Bags) -> None:
    rng = np.random.default_rng(0)
    looks = {(seed, fold): rng.random((len(bags.of), 2)) for seed in (0, 1) for fold in (0, 1, 2)}
    found = stability(looks, bags, ["a_AML", "a_healthy"])
    own = bags.rows(np.array([3]))[0]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = [
        spearmanr(looks[seed, a][own, 1], looks[seed, b][own, 1]).statistic for seed in (0, 1) for a, b in pairs
    ]
    row = found[(found["bag"] == bags.names[3]) & (found["attention"] == "a_healthy")].set_index("between")
    assert row.loc["folds", "spearman"] == pytest.approx(np.mean(expected))
    expected = [spearmanr(looks[0, fold][own, 1], looks[1, fold][own, 1]).statistic for fold in (0, 1, 2)]
    assert row.loc["seeds", "spearman"] == pytest.approx(np.mean(expected))


def test_the_same_attention_agrees_wholly_and_one_model_with_nobody(bags: Bags) -> None:
    look = np.random.default_rng(0).random((len(bags.of), 1))
    found = stability({(0, 0): look, (0, 1): 3 * look}, bags, ["a"])
    assert set(found["between"]) == {"folds"}
    assert found["spearman"].to_numpy() == pytest.approx(1)
    assert found["overlap"].to_numpy() == pytest.approx(1)
    assert stability({(0, 0): look}, bags, ["a"]).empty


def attention() -> pd.DataFrame:
    """Four patients of ten cells, two seeds: in those of class S, cell 0 is a blast and gets most."""
    rows = []
    for seed in (0, 1):
        for patient, diagnosis in enumerate("SSHH"):
            for cell in range(10):
                blast = cell == 0 and diagnosis == "S"
                kind = "blast" if blast else None if cell == 9 else ("NEU", "LYM")[cell % 2]
                weight = (0.55 + 0.1 * seed) if blast else (0.45 - 0.1 * seed) / 9 if diagnosis == "S" else 0.1
                rows.append(
                    {"encoder": "e", "head": "h", "seed": seed, "bag": f"P{patient}", "cell_id": f"{patient}-{cell}"}
                    | {"kind": kind, "a_S": weight, "a_H": 0.1}
                )
    return pd.DataFrame(rows)


LABELS = pd.Series(list("SSHH"), index=["P0", "P1", "P2", "P3"])


def test_attention_is_that_of_the_patients_own_class_averaged_over_seeds() -> None:
    relative = relative_attention(attention(), LABELS)
    assert len(relative) == 40
    blasts = relative[relative["kind"] == "blast"]
    assert blasts["attention"].to_numpy() == pytest.approx(6.0)
    assert blasts["rank"].to_numpy() == pytest.approx(1.0)
    assert relative.loc[relative["diagnosis"] == "H", "attention"].to_numpy() == pytest.approx(1.0)
    one = attention().assign(a=attention()["a_S"]).drop(columns=["a_S", "a_H", "kind"])
    without = relative_attention(one, LABELS)
    assert without["kind"].isna().all()
    assert without["attention"].to_numpy() == pytest.approx(relative["attention"].to_numpy())


def test_kinds_are_read_by_patient_and_enrichment_is_of_the_top_tenth() -> None:
    table = attention_by_kind(relative_attention(attention(), LABELS), ["blast"])
    rows = table.set_index(["diagnosis", "kind"])
    blast = rows.loc[("S", "blast")]
    assert (blast["patients"], blast["cells"]) == (2, 2)
    assert blast["attention"] == pytest.approx(6.0)
    assert blast["share"] == pytest.approx(2 / 18)
    assert blast["top_share"] == pytest.approx(1.0)
    assert blast["enrichment"] == pytest.approx(9.0)
    assert rows.loc[("S", SUSPECT), "attention"] == pytest.approx(6.0)
    assert ("H", "blast") not in rows.index
    # Two patients cannot make a signed-rank test significant, and correction never makes p smaller.
    assert blast["p"] == pytest.approx(0.5)
    assert (table["p_corrected"] >= table["p"]).all()


def test_many_patients_make_it_significant() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"encoder": "e", "head": "h", "bag": f"P{patient}", "diagnosis": "S", "cell_id": f"{patient}-{cell}"}
        | {"kind": "blast" if cell < 2 else "NEU", "attention": rng.random() + (1.0 if cell < 2 else 0.0)}
        for patient in range(20)
        for cell in range(20)
    ]
    table = pd.DataFrame(rows)
    table["rank"] = table.groupby("bag")["attention"].rank(pct=True)
    found = attention_by_kind(table).set_index("kind")
    assert found.loc["blast", "p_corrected"] < 1e-4
    assert found.loc["blast", "enrichment"] > 5
    table["attention"] = rng.random(len(table))
    table["rank"] = table.groupby("bag")["attention"].rank(pct=True)
    found = attention_by_kind(table).set_index("kind")
    assert found.loc["blast", "p"] > 0.01
    assert 0.5 < found.loc["blast", "enrichment"] < 2


def test_correction_is_that_of_each_model_by_itself() -> None:
    rng = np.random.default_rng(1)
    tables = []
    for head, strength in (("strong", 1.0), ("weak", 0.02)):
        one = pd.DataFrame(
            [
                {"encoder": "e", "head": head, "bag": f"P{patient}", "diagnosis": "SH"[patient % 2]}
                | {"cell_id": f"{patient}-{cell}", "kind": ("blast", "NEU", "LYM")[cell % 3]}
                | {"attention": rng.random() + strength * (cell % 3 == 0)}
                for patient in range(16)
                for cell in range(12)
            ]
        )
        one["rank"] = one.groupby("bag")["attention"].rank(pct=True)
        tables.append(one)
    together = attention_by_kind(pd.concat(tables), ["blast"]).set_index(["head", "diagnosis", "kind"])
    for one in tables:
        alone = attention_by_kind(one, ["blast"]).set_index(["head", "diagnosis", "kind"])
        assert together.loc[alone.index, "p_corrected"].to_numpy() == pytest.approx(alone["p_corrected"].to_numpy())
    assert (together["p_corrected"] >= together["p"]).all()


def test_what_is_not_defined_is_none_in_json() -> None:
    told = records(pd.DataFrame({"kind": ["a", "b"], "sd": [0.5, np.nan]}))
    assert told == [{"kind": "a", "sd": 0.5}, {"kind": "b", "sd": None}]
    assert summarise_stability(pd.DataFrame()).empty
    assert summarise_removal(pd.DataFrame()).empty
