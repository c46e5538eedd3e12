from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.labels import Labels
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import Encoder
from leukoscope.methods.classes import known_classes
from leukoscope.methods.pretrain import pretrain
from leukoscope.methods.pretrain_settings import PretrainSettings


def overlay(cells: CellSet, labels: list[str | None]) -> Labels:
    return Labels(pd.DataFrame({"cell_id": cells.ids[: len(labels)], "label": labels}))


def test_cells_without_a_label_are_left_out(three_kinds: CellSet) -> None:
    labels = overlay(three_kinds, ["b", None, "a", "b"])
    kept, classes = known_classes([three_kinds], column="label", overlay=labels)
    assert kept[0].ids.tolist() == three_kinds.ids[[0, 2, 3]].tolist()
    assert classes.names == ("a", "b")
    assert classes.codes.tolist() == [1, 0, 1]


def test_classes_run_through_several_sets(three_kinds: CellSet) -> None:
    kinds = three_kinds.cells["label"].to_numpy()
    first, second = three_kinds.select(kinds != "NEU"), three_kinds.select(kinds == "NEU")
    _, classes = known_classes([first, second], column="label")
    assert classes.names == ("K562", "LYM", "NEU")
    assert (classes.codes[len(first) :] == 2).all()
    assert [classes.names[code] for code in classes.codes[: len(first)]] == first.cells["label"].tolist()


def test_one_class_is_no_task(three_kinds: CellSet) -> None:
    with pytest.raises(InputError, match="label label: 1 classes"):
        known_classes([three_kinds.where("label=NEU")], column="label")


def test_the_bundle_says_which_classes_it_was_taught(three_kinds: CellSet, tmp_path: Path) -> None:
    settings = {"method": "supervised", "backbone": "test_resnet", "size": 16, "policy": {"views": [{"count": 1}]},
                "train": {"epochs": 1, "batch": 64, "device": "cpu", "monitor_cells": 0, "balance": True}}  # fmt: skip
    chosen = PretrainSettings.parse(settings, "test")
    bundle = pretrain([three_kinds], tmp_path / "run", settings=chosen)
    assert Encoder.load(bundle).info.learned_classes == ("K562", "LYM", "NEU")
    moved = overlay(three_kinds, list(np.roll(three_kinds.cells["label"], 1)))
    with pytest.raises(InputError, match="this run began with labels"):
        pretrain([three_kinds], tmp_path / "run", settings=chosen, overlay=moved)
