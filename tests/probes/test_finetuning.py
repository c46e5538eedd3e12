import numpy as np
import pytest
import torch

from leukoscope.cells.cellset import CellSet
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.probes.finetuning import FineTuned, fine_tune
from leukoscope.probes.parts import Parts, parts_of
from leukoscope.probes.presets import stage_settings
from leukoscope.scores.metrics import score
from leukoscope.training.source import Batches

HEAD = {"trains": "head", "epochs": 8, "lr": 0.01}
TWO_STEP = {"head": {**HEAD, "epochs": 2}, "all": {"epochs": 6, "lr": 0.003}}


@pytest.fixture(scope="module")
def encoder(bars: CellSet) -> Encoder:
    return random_encoder("test_resnet", bars, size=16)


def labels_of(cells: CellSet) -> np.ndarray:
    return cells.cells["label"].to_numpy(dtype=object)


def parts(cells: CellSet, **options: object) -> Parts:
    given = {"column": None, "group": "slide", "test_share": 0.3, "inner_share": 0.2, "max_per_class": None, "seed": 0}
    return parts_of(cells, labels_of(cells), **{**given, **options})


def tuned(cells: CellSet, encoder: Encoder, stages: dict[str, object], **others: object) -> FineTuned:
    settings = stage_settings(None, {"stages": stages, "batch": 12, "device": "cpu", **others}, "x")
    return fine_tune(cells, labels_of(cells), encoder, parts(cells), settings, name="x")


def accuracy(found: FineTuned, part: str = "test") -> float:
    return score(found.predictions[part])["accuracy"]


def test_fine_tuning_learns_what_a_frozen_encoder_cannot_show(bars: CellSet, encoder: Encoder) -> None:
    before = encoder.fingerprint
    frozen, found = tuned(bars, encoder, {"head": HEAD}), tuned(bars, encoder, TWO_STEP)
    assert accuracy(found) > 0.9
    assert accuracy(frozen) < 0.85
    assert accuracy(found, "validation") > 0.8
    assert encoder.fingerprint == before
    assert frozen.encoder is encoder
    info = found.encoder.info
    assert (info.method, info.learned_classes) == ("finetune", ("bright-left", "dark-left"))
    assert info.recipe["started_from"]["fingerprint"] == before


def test_predictions_are_of_the_parts_and_the_head_is_the_networks(bars: CellSet, encoder: Encoder) -> None:
    found, cells = tuned(bars, encoder, TWO_STEP, precision="fp32"), parts(bars)
    rows = {**cells.rows, "train": cells.training}
    assert {part: list(table["cell_id"]) for part, table in found.predictions.items()} == {
        part: list(bars.ids[rows[part]]) for part in ("train", "validation", "test")
    }
    features = found.encoder.features(torch.from_numpy(bars.read(cells.rows["test"])))
    p = found.head.probabilities(features).numpy()
    assert np.allclose(p, found.predictions["test"][["p_bright-left", "p_dark-left"]], atol=1e-5)


def test_the_refit_takes_training_and_validation_cells_and_never_a_test_cell(
    bars: CellSet, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[set[str]] = []
    real = Batches.read

    def watched(self: Batches, cells: np.ndarray) -> object:
        drawn[-1].update(self.sets[0].ids[cells])
        return real(self, cells)

    begun = Batches.__init__

    def begin(self: Batches, *args: object, **options: object) -> None:
        drawn.append(set())
        begun(self, *args, **options)

    monkeypatch.setattr(Batches, "read", watched)
    monkeypatch.setattr(Batches, "__init__", begin)
    tuned(bars, encoder, {"all": {"epochs": 1, "lr": [0.003, 0.001]}}, batch=20)
    cells = parts(bars)
    train, training = set(bars.ids[cells.rows["train"]]), set(bars.ids[cells.training])
    assert drawn == [train, train, training]
    assert not training & set(bars.ids[cells.rows["test"]])


def test_the_epochs_that_were_found_train_anew(bars: CellSet, encoder: Encoder) -> None:
    stages = {"head": {**HEAD, "epochs": 2}, "all": {"epochs": 40, "lr": 0.05, "patience": 1}}
    found = tuned(bars, encoder, stages)
    refit = [row for row in found.history if row["fit"] == "refit"]
    trial = [row for row in found.history if row["fit"] == "trial 1"]
    watched = [row["validation_loss"] for row in trial if row["stage"] == "all"]
    assert found.plan.epochs == (2, int(np.argmin(watched)) + 1)
    assert len(watched) == found.plan.epochs[1] + 1 < 40
    assert [row["stage"] for row in refit].count("all") == found.plan.epochs[1]
    assert not any("validation_loss" in row for row in refit)


def test_labels_of_test_cells_have_no_say(bars: CellSet, encoder: Encoder) -> None:
    stages = {"all": {"epochs": 2, "lr": [0.001, 0.003]}}
    settings = stage_settings(None, {"stages": stages, "batch": 12, "device": "cpu", "dropout": 0.3}, "x")
    labels, cells = labels_of(bars), parts(bars)
    swapped = labels.copy()
    swapped[cells.rows["test"]] = np.where(labels[cells.rows["test"]] == "dark-left", "bright-left", "dark-left")
    one, other = (fine_tune(bars, each, encoder, cells, settings, name="x") for each in (labels, swapped))
    assert one.predictions["test"]["p_dark-left"].equals(other.predictions["test"]["p_dark-left"])
    assert one.encoder.fingerprint == other.encoder.fingerprint
