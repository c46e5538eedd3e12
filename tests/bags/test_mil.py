import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from leukoscope.bags.bags import bags_of
from leukoscope.bags.crossval import BagSettings, cross_validate_bags
from leukoscope.bags.folds import bag_folds
from leukoscope.bags.mil import mil
from leukoscope.bags.train import as_drawn
from leukoscope.common.errors import InputError
from leukoscope.common.files import read_json
from leukoscope.encoders.features import Features
from leukoscope.encoders.mapfile import StoredMaps
from leukoscope.scores import predictions

Cohort = Callable[..., Features]
HEADS = ("class-attention", "abmil", "max", "mean-features")
RARE = 4
QUICK = BagSettings.parse(
    {
        "device": "cpu",
        "train": {"epochs": 50},
        "models": {"class-attention": {"widths": [24], "reduced": 16, "attention": 8, "hidden": 8}},
    },
    where="test",
)


@pytest.fixture(scope="module")
def sick(make_cohort: Cohort) -> Features:
    return make_cohort(0.1)


@pytest.fixture(scope="module")
def run(sick: Features, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mil") / "run"
    mil({"e": sick}, out, heads=HEADS, seeds=(0, 1), settings=QUICK, n_bootstrap=50)
    return out


def test_patients_with_a_rare_kind_of_cell_are_told(run: Path) -> None:
    scores = read_json(run / "results.json")["scores"]["e"]
    for head in HEADS:
        assert scores[head]["roc_auc_macro"]["mean"] > 0.95, head


def test_attention_lies_on_the_cells_that_make_the_difference(run: Path, sick: Features) -> None:
    kinds = sick.cells.set_index("cell_id")["kind"]
    table = pd.read_parquet(run / "attention.parquet")
    for head, column in (("class-attention", "a_AML"), ("abmil", "a")):
        own = table[(table["head"] == head) & table["bag"].isin(sick.cells.loc[sick.cells["kind"] == RARE, "patient"])]
        rare = (own["cell_id"].map(kinds) == RARE).to_numpy()
        ranks = own.groupby(["seed", "bag"])[column].rank(pct=True)
        assert rare[ranks > 0.9].mean() > 5 * rare.mean(), head


def test_every_patient_is_judged_once_a_seed_and_attention_sums_to_one(run: Path, sick: Features) -> None:
    table = predictions.read(run / "predictions.parquet")
    assert table.groupby(["head", "seed"])["cell_id"].agg(["size", "nunique"]).eq(40).all(axis=None)
    looked = pd.read_parquet(run / "attention.parquet")
    assert len(looked) == 2 * 2 * len(sick)
    sums = looked.groupby(["head", "seed", "bag"])[["a", "a_AML", "a_healthy"]].sum(min_count=1).to_numpy()
    np.testing.assert_allclose(sums[~np.isnan(sums)], 1, atol=1e-4)


def test_without_any_difference_nobody_is_told(make_cohort: Cohort) -> None:
    """Leakage would show here: features of a patient's own, which memory could use, and classes by chance."""
    cohort = make_cohort(0.0, patients=60)
    marks = pd.factorize(cohort.cells["patient"])[0]
    own = np.random.default_rng(1).normal(size=(60, 12))[marks]
    bags = bags_of(Features((cohort.x + own).astype(np.float32), cohort.cells))
    folds = bag_folds(bags, n_folds=5, seed=0)
    found = cross_validate_bags(bags, folds, heads=("class-attention", "mean-features"), seeds=(0,), settings=QUICK)
    right = found.predictions["p_AML"].gt(0.5) == (found.predictions["label"] == "AML")
    # 60 fair coins: the share of heads lies in this range with a probability of 0.999.
    assert right.groupby(found.predictions["head"]).mean().between(0.28, 0.72).all()


def test_linked_patients_are_never_parted(make_cohort: Cohort) -> None:
    cohort = make_cohort(0.1, patients=20)
    cells = cohort.cells.copy()
    for number in range(0, 20, 4):  # pairs of patients of one class that share an image
        rows = [np.flatnonzero(cells["patient"] == f"P{number + shift:02d}")[0] for shift in (0, 2)]
        cells.loc[rows[1], "cell_id"] = cells.loc[rows[0], "cell_id"].replace(":", ":again")
    bags = bags_of(Features(cohort.x, cells))
    folds = bag_folds(bags, n_folds=3, seed=0)
    tested = folds[folds["role"] == "test"].set_index("cell_id")["fold"]
    pairs = [(f"P{number:02d}", f"P{number + 2:02d}") for number in range(0, 20, 4)]
    assert all(tested[a] == tested[b] for a, b in pairs)


def test_patients_of_one_site_may_lie_in_different_folds(make_cohort: Cohort) -> None:
    """Names with a colon are names: they are not taken for images that patients share."""
    cohort = make_cohort(0.1, patients=12)
    cells = cohort.cells.assign(patient="site:" + cohort.cells["patient"])
    bags = bags_of(Features(cohort.x, cells))
    folds = bag_folds(bags, n_folds=3, seed=0)
    assert set(folds["cell_id"]) == set(cells["patient"])
    assert folds[folds["role"] == "test"]["fold"].nunique() == 3
    found = cross_validate_bags(bags, folds, heads=("mean-features",), settings=QUICK)
    assert set(found.predictions["cell_id"]) == set(cells["patient"])


def test_settings_of_no_model_are_refused() -> None:
    with pytest.raises(InputError, match="no model of bags 'abmill'"):
        BagSettings.parse({"models": {"abmill": {"gated": False}}}, where="test")


def test_encoders_of_other_patients_are_refused(sick: Features, tmp_path: Path) -> None:
    other = sick.select((sick.cells["patient"] != "P00").to_numpy())
    with pytest.raises(InputError, match="b: its features are not of the same cells as those of a"):
        mil({"a": sick, "b": other}, tmp_path / "run", settings=QUICK)


@pytest.mark.parametrize(
    ("heads", "models", "message"),
    [
        (("attention",), {}, "--head attention: no such model of bags; choose from class-attention"),
        (("abmil",), {"abmil": {"gate": True}}, "head abmil: unknown key 'gate'; did you mean 'gated'?"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    sick: Features, tmp_path: Path, heads: tuple[str, ...], models: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        mil({"e": sick}, tmp_path / "run", heads=heads, settings=QUICK.model_copy(update={"models": models}))
    assert not (tmp_path / "run").exists()


def test_a_cell_whose_features_are_no_numbers_is_named(make_cohort: Cohort, tmp_path: Path) -> None:
    broken = make_cohort(0.1)
    broken.x[3, 0] = np.nan
    with pytest.raises(InputError, match=f"e: the features of cell {broken.ids[3]} are not finite"):
        mil({"e": broken}, tmp_path / "run", settings=QUICK)
    assert not (tmp_path / "run").exists()


def samples_of_patients(patients: int = 30) -> Features:
    """Two samples of every patient, whose cells all carry the patient's own mark; the classes mean nothing."""
    rng = np.random.default_rng(5)
    marks = rng.normal(size=(patients, 48))
    x, rows = [], []
    for patient in range(patients):
        for sample in ("a", "b"):
            x.append(marks[patient] + rng.normal(size=(20, 48)))
            label = "AML" if patient % 2 else "healthy"
            rows += [{"patient": f"P{patient:02d}", "sample": f"P{patient:02d}{sample}", "label": label}] * 20
    table = pd.DataFrame(rows)
    table.insert(0, "cell_id", [f"h{number}:x#{number}" for number in range(len(table))])
    return Features(np.concatenate(x).astype(np.float32), table)


def test_a_split_that_parts_patients_learns_them_and_ours_does_not() -> None:
    """A leak is planted: with samples parted from their patient's others, memory is as good as knowledge."""
    areas = {}
    for group in (None, "none"):
        bags = bags_of(samples_of_patients(), bag="sample", group=group)
        folds = bag_folds(bags, n_folds=5, seed=0)
        found = cross_validate_bags(bags, folds, heads=("abmil", "mean-features"), seeds=(0,), settings=QUICK)
        for head, table in found.predictions.groupby("head"):
            areas[group, head] = roc_auc_score(table["label"] == "AML", table["p_AML"])
    for head in ("abmil", "mean-features"):
        assert areas["none", head] > 0.8, head
        assert 0.25 < areas[None, head] < 0.75, head


def test_the_leak_is_told_where_it_was_asked_for(tmp_path: Path) -> None:
    results = mil({"e": samples_of_patients()}, tmp_path / "run", bag="sample", group="none", heads=("mean-features",))
    assert re.match(r"of \d+ of 30 patients some samples were learned from and others tested", results["warnings"][0])


def test_maps_are_learned_from_where_they_were_stored(sick: Features, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stored = np.repeat(sick.x[:, :, None, None], 2, axis=3) + 0.1 * rng.normal(size=(*sick.x.shape, 1, 2))
    np.save(tmp_path / "cells.maps.npy", stored.astype(np.float16))
    with_maps = Features(sick.x, sick.cells, {}, maps=StoredMaps(tmp_path / "cells.maps.npy"))
    small = {"widths": [24], "reduced": 16, "attention": 8, "hidden": 8}
    quick = QUICK.model_copy(update={"models": {"map-attention": small}})
    asked = {"heads": ("map-attention",), "seeds": (0,), "settings": quick, "n_bootstrap": 5}
    results = mil({"e": with_maps}, tmp_path / "run", **asked)
    assert results["scores"]["e"]["map-attention"]["roc_auc_macro"]["mean"] > 0.9
    with pytest.raises(InputError, match=r"head map-attention: the features came without maps; embed .* --maps"):
        mil({"e": sick}, tmp_path / "other", **asked)


def test_mirrored_cells_are_drawn_as_often_as_the_cells(sick: Features) -> None:
    x = torch.from_numpy(sick.x)
    flipped = torch.stack([x + 10, x + 20, x + 30])
    drawn = as_drawn(np.random.default_rng(0), x, flipped, np.arange(len(sick)))
    ways = ((drawn - x).mean(dim=1) / 10).round().long()
    assert torch.allclose(drawn, x + 10.0 * ways[:, None], atol=1e-4)
    assert (torch.bincount(ways, minlength=4) / len(x)).sub(0.25).abs().max() < 0.05
    assert torch.equal(as_drawn(np.random.default_rng(0), x, None, np.arange(3)), x[:3])


def test_models_learn_from_mirrored_cells_unless_they_are_told_not_to(sick: Features) -> None:
    rng = np.random.default_rng(0)
    noise = np.stack([50 * rng.normal(size=sick.x.shape).astype(np.float32) for _ in range(3)])
    spoiled = bags_of(Features(sick.x, sick.cells, {}, flipped=noise))
    folds = bag_folds(spoiled, n_folds=3, seed=0)
    areas = {}
    for flips in (True, False):
        settings = QUICK.model_copy(update={"train": QUICK.train.model_copy(update={"flips": flips})})
        found = cross_validate_bags(spoiled, folds, heads=("abmil",), seeds=(0,), settings=settings).predictions
        areas[flips] = roc_auc_score(found["label"] == "AML", found["p_AML"])
    assert areas[False] > 0.95
    assert areas[True] < areas[False]


def test_a_kind_that_one_patient_alone_has_is_told_without_a_spread(sick: Features, tmp_path: Path) -> None:
    kinds = np.where(sick.cells["patient"] == "P03", "odd", sick.cells["kind"].astype(str))
    cohort = Features(sick.x, sick.cells.assign(kind=kinds))
    asked = {"heads": ("abmil",), "seeds": (0,), "settings": QUICK, "n_bootstrap": 5, "kind": "kind"}
    results = mil({"e": cohort}, tmp_path / "run", **asked)
    (odd,) = [row for row in results["reading"]["kinds"] if row["kind"] == "odd"]
    assert odd["patients"] == 1
    assert odd["sd"] is None
    assert read_json(tmp_path / "run" / "results.json")["reading"]["kinds"] == results["reading"]["kinds"]
