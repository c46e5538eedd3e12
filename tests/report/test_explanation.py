import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.labels import Labels
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import random_encoder
from leukoscope.explain.similarity import likeness
from leukoscope.report.explanation import KINDS, explain


def test_every_kind_has_figures_for_print_and_its_numbers(explained: Path):
    found = json.loads((explained / "results.json").read_text())
    assert list(found["figures"]) == list(KINDS)
    for files in found["figures"].values():
        for name in files:
            assert (explained / "figures" / name).is_file()
            assert (explained / "figures" / name).with_suffix(".pdf").is_file()
    assert {path.name for path in (explained / "arrays").iterdir()} == {
        "attention-vit.npy", "rollout-vit.npy", "likeness-vit.npy", "likeness-resnet.npy", "pca-vit.npy",
        "pca-resnet.npy",
    }  # fmt: skip
    assert {path.name for path in (explained / "tables").iterdir()} == {
        "cells.csv", "likeness.csv", "map-resnet.csv", "map-vit.csv",
    }  # fmt: skip


def test_the_numbers_are_those_of_the_shown_cells_in_their_order(explained: Path, cellset, two_encoders):
    shown = pd.read_csv(explained / "tables" / "cells.csv")
    found = json.loads((explained / "results.json").read_text())
    assert shown["cell_id"].tolist() == found["cells"]
    assert shown["label"].tolist() == sorted(cellset.cells["label"].unique())  # one of each class
    assert np.load(explained / "arrays" / "attention-vit.npy").shape == (5, 3, 2, 2)
    table = pd.read_csv(explained / "tables" / "likeness.csv")
    assert found["references"] == [table["cell_id"][0]]
    rows = pd.Index(cellset.ids).get_indexer(table["cell_id"])
    again = likeness(two_encoders["resnet"], cellset, rows, rows[:1], device="cpu")
    np.testing.assert_allclose(table["resnet"], again.similarity, atol=1e-5)
    np.testing.assert_allclose(np.load(explained / "arrays" / "likeness-resnet.npy"), again.heat, atol=1e-3)


def test_the_map_holds_training_and_new_cells(explained: Path, cellset, new_cells):
    table = pd.read_csv(explained / "tables" / "map-resnet.csv")
    assert table["set"].value_counts().to_dict() == {"training": len(cellset), "new": len(new_cells)}
    assert set(table["cell_id"]) == {*cellset.ids, *new_cells.ids}
    assert np.isfinite(table[["x", "y"]]).all(axis=None)


def test_what_an_encoder_cannot_give_is_said_in_a_line(explained: Path):
    html = (explained / "report.html").read_text(encoding="utf-8")
    absent = re.findall(r'<p class="absent">(Not shown: .*?)</p>', html)
    assert absent == [
        "Not shown: resnet: resnet18: no class token that attends to patches; attention maps need a ViT with one."
    ]
    for kind in ("run", *KINDS, "provenance"):
        assert f'<section id="{kind}">' in html
    assert "patient P3" in html
    assert "For research use only" in html


def test_a_classifier_explains_the_class_and_a_kind_not_asked_for_stays_away(
    cellset, two_encoders, features, tmp_path: Path
):
    from leukoscope.differential.fit import fit
    from leukoscope.encoders.embed import embed

    own = embed(cellset, two_encoders["resnet"], device="cpu")
    classifier = fit(own, tmp_path / "classifier", n_folds=3)
    options = {"what": ["gradcam"], "per_class": 1, "device": "cpu"}
    found = explain(cellset, two_encoders, tmp_path / "out", classifier=tmp_path / "classifier", **options)
    assert found["figures"] == {"gradcam": ["gradcam-class-resnet.png"]}
    assert found["absent"] == {"gradcam": ["vit: the classifier was fitted on another encoder."]}
    said = pd.read_csv(tmp_path / "out" / "tables" / "predicted-resnet.csv")
    rows = pd.Index(cellset.ids).get_indexer(said["cell_id"])
    expected = classifier.probabilities(own.x[rows])
    np.testing.assert_allclose(said[[f"p_{name}" for name in classifier.info.classes]], expected, atol=1e-4)
    assert "Not shown: not asked for." in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_labels_of_people_are_laid_over(cellset, two_encoders, tmp_path: Path):
    table = pd.DataFrame({"cell_id": cellset.ids[:4], "label": ["odd", "even", "odd", "even"]})
    encoders = {"resnet": two_encoders["resnet"]}
    found = explain(cellset, encoders, tmp_path / "out", what=["pca"], per_class=1, overlay=Labels(table), device="cpu")
    assert [list(cellset.ids).index(name) % 2 for name in found["cells"]] == [1, 0]


def refused(cellset, two_encoders, tmp_path: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        explain(cellset, options.pop("encoders", two_encoders), tmp_path / "out", device="cpu", **options)
    assert not (tmp_path / "out").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"what": ["saliency"]}, "--what saliency: no such picture; choose of gradcam, attention, pca, map"),
        ({"method": "pca"}, "--method pca: no such map; choose one of umap, tsne"),
        ({"cells": ["nowhere"]}, "cell 'nowhere': not in"),
        ({"patient": "P3"}, "--patient P3: whose cells are to be placed? give their CellSet with --new"),
        ({"label": "kind"}, "no column 'kind'"),
        ({"encoders": {}}, "explain: give at least one encoder"),
        ({"cells": ["3.png"], "per_class": 2}, "explain: give --cells or --per-class, not both"),
    ],
)
def test_mistakes_are_named_in_one_line(cellset, two_encoders, tmp_path: Path, options, message):
    assert message in refused(cellset, two_encoders, tmp_path, **options)


def test_what_is_asked_for_by_name_and_no_encoder_can_give_is_refused(cellset, two_encoders, tmp_path: Path):
    encoders = {"resnet": two_encoders["resnet"]}
    assert "no class token" in refused(cellset, two_encoders, tmp_path, encoders=encoders, what=["attention"])
    few = cellset.select(np.arange(8))
    assert "8 cells are too few for a map" in refused(few, two_encoders, tmp_path, what=["map"])


def test_a_patient_that_is_not_there_and_names_that_clash(cellset, two_encoders, new_cells, tmp_path: Path):
    said = refused(cellset, two_encoders, tmp_path, new=new_cells, patient="P99")
    assert "--patient P99: not in" in said
    assert "it has P0, P1" in said
    clash = {"a b": two_encoders["vit"], "a-b": two_encoders["vit"]}
    assert "two have one name" in refused(cellset, two_encoders, tmp_path, encoders=clash)


def test_channels_that_do_not_fit_are_refused_before_any_work(make_cells, two_encoders, cellset, tmp_path: Path):
    other = make_cells(channels=3, n=20)
    assert "has 3 channels" in refused(other, two_encoders, tmp_path)
    assert "has 3 channels" in refused(cellset, two_encoders, tmp_path, new=other)


def test_cells_without_classes_or_origins_are_explained_all_the_same(cellset, tmp_path: Path):
    from dataclasses import replace

    bare = replace(cellset, cells=cellset.cells[["cell_id", "source"]])
    encoders = {"resnet": random_encoder("resnet18", cellset, size=32)}
    found = explain(bare, encoders, tmp_path / "out", what=["gradcam", "map"], method="tsne", device="cpu")
    assert len(found["cells"]) == 8
    assert found["figures"] == {"gradcam": ["gradcam-likeness.png"], "map": ["map-resnet.png"]}
    assert "no class, batch or patient is known" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
