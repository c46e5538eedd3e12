import numpy as np
import pandas as pd
import pytest
import torch

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.folds import make_folds
from leukoscope.cells.labels import labels_of
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.common.errors import InputError
from leukoscope.probes.networks import create_network, patch_of
from leukoscope.probes.supervised import SupervisedSettings, cross_validate_images
from leukoscope.scores.metrics import score
from leukoscope.scores.predictions import validate
from leukoscope.scores.results import covers

QUICK = SupervisedSettings(size=16, epochs=4, batch=8, lr=(0.0003,), warmup_epochs=0)
STEADY = QUICK.model_copy(update={"epochs": 5, "optimiser": "sgd", "lr": (0.02,), "weight_decay": 1e-4})


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    """Discs on a noisy ground: small ones and large ones."""
    out, generator = tmp_path_factory.mktemp("sets") / "discs.set", np.random.default_rng(0)
    out.mkdir()
    away = np.hypot(*np.mgrid[-7.5:8, -7.5:8])
    with CellSetWriter(out, channels=["grey"], height=16, width=16, dtype=np.dtype(np.uint8)) as writer:
        for i in range(80):
            disc = np.where(away < (3 + 3 * (i % 2)), 60, 180)
            pixels = (disc + generator.normal(0, 10, (1, 1, 16, 16))).astype(np.uint8)
            writer.add(pixels, [{"cell_id": cell_id(pixels[0], "discs", i), "label": ["small", "large"][i % 2]}])
        writer.finish(packing={})
    return CellSet.open(out)


def folds_of(cells: CellSet) -> pd.DataFrame:
    return make_folds(cells.cells, labels_of(cells), n_folds=2)


def run(cells: CellSet, settings: SupervisedSettings = QUICK, **options) -> pd.DataFrame:
    options = {"model": "mlp", "folds": folds_of(cells), "device": "cpu", **options}
    return cross_validate_images(cells, labels_of(cells), settings=settings, **options)


@pytest.mark.parametrize("model", ["resnet18", "mlp"])
def test_a_network_learns_to_tell_easy_cells_apart(cells: CellSet, model: str) -> None:
    folds = folds_of(cells).query("fold == 0")
    table = run(cells, STEADY, model=model, folds=folds)
    covers(validate(table), folds)
    assert set(table["encoder"] + "/" + table["head"]) == {f"supervised/{model}"}
    assert score(table)["accuracy"] > 0.85


def test_a_transformer_predicts_the_cells_held_out(cells: CellSet) -> None:
    folds = folds_of(cells).query("fold == 0").groupby("role").head(8)
    table = run(cells, QUICK.model_copy(update={"epochs": 1}), model="vit_small", folds=folds)
    covers(validate(table), folds)


def test_the_seed_decides_every_bit(cells: CellSet) -> None:
    quick = QUICK.model_copy(update={"epochs": 1})
    torch.manual_seed(0)
    one = run(cells, quick, seed=3)
    torch.manual_seed(1)
    pd.testing.assert_frame_equal(one, run(cells, quick, seed=3))
    assert not one["p_small"].equals(run(cells, quick, seed=4)["p_small"])


def test_labels_of_test_cells_have_no_say(cells: CellSet) -> None:
    quick, folds, labels = (
        QUICK.model_copy(update={"epochs": 1, "lr": (0.001, 0.0001)}),
        folds_of(cells),
        labels_of(cells),
    )
    first = folds[folds["fold"] == 0]
    known = cross_validate_images(cells, labels, first, model="mlp", settings=quick)
    tested = np.isin(cells.ids, first.loc[first["role"] == "test", "cell_id"])
    swapped = np.where(tested, np.where(labels == "small", "large", "small"), labels)
    other = cross_validate_images(cells, swapped, first, model="mlp", settings=quick)
    assert known["p_small"].equals(other["p_small"])


def test_of_several_learning_rates_the_one_that_works_is_chosen(cells: CellSet, caplog) -> None:
    caplog.set_level("INFO")
    run(cells, QUICK.model_copy(update={"epochs": 4, "lr": (1e-9, 0.001)}), model="mlp")
    assert all("lr 0.001" in record.getMessage() for record in caplog.records if "accuracy" in record.getMessage())


def test_patches_fit_the_size() -> None:
    assert [patch_of(size) for size in (224, 128, 64, 32, 16)] == [16, 16, 8, 4, 2]
    with pytest.raises(InputError, match="size 70 is no multiple of its patch of 8 pixels"):
        patch_of(70)
    logits = create_network("vit_small", channels=1, size=224, n_classes=3, seed=0)(torch.zeros(1, 1, 224, 224))
    assert logits.shape == (1, 3)


def test_mistakes_are_named(cells: CellSet) -> None:
    with pytest.raises(InputError, match="supervised network 'vgg': unknown; choose from mlp, resnet18, vit_small"):
        run(cells, model="vgg")
    labels, folds = labels_of(cells), folds_of(cells)
    with pytest.raises(InputError, match="lacks 2 cells of the folds"):
        cross_validate_images(
            cells, labels, folds.assign(cell_id=folds["cell_id"].replace(cells.ids[0], "x")), model="mlp"
        )
    labels[0] = None
    with pytest.raises(InputError, match="of the folds has no label"):
        cross_validate_images(cells, labels, folds, model="mlp")
    with pytest.raises(InputError, match="unknown key 'epoch'; did you mean 'epochs'"):
        SupervisedSettings.parse({"epoch": 3}, "recipe")
