import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.folds import make_folds
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.probes.finetune_folds import FinetunePlan, cross_validate_finetuned
from leukoscope.probes.trainer import Trainer
from leukoscope.scores.metrics import score
from leukoscope.scores.predictions import validate
from leukoscope.scores.results import covers

QUICK = {"encoder": "random:test_resnet", "batch": 20, "policy": None, "device": "cpu"}


def run(cells: CellSet, stages: dict[str, object], labels: np.ndarray | None = None, **others: object) -> pd.DataFrame:
    settings = FinetunePlan.of({**QUICK, "preset": None, "stages": stages, **others}, "x").settings
    encoder = random_encoder("test_resnet", cells, size=16)
    labels = cells.cells["label"].to_numpy(dtype=object) if labels is None else labels
    folds = folds_of(cells)
    return cross_validate_finetuned(cells, labels, folds, name="two", encoder=lambda fold: encoder, settings=settings)


def folds_of(cells: CellSet) -> pd.DataFrame:
    labels = cells.cells["label"].to_numpy(dtype=object)
    return make_folds(cells.cells, labels, n_folds=2, group="slide").assign(
        group=lambda folds: folds["cell_id"].map(cells.cells.set_index("cell_id")["slide"])
    )


def test_every_cell_is_predicted_by_the_network_that_did_not_learn_from_it(bars: CellSet) -> None:
    table = run(bars, {"head": {"trains": "head", "epochs": 1, "lr": 0.01}, "all": {"epochs": 8, "lr": 0.003}})
    covers(validate(table), folds_of(bars))
    assert set(table["encoder"] + "/" + table["head"]) == {"two/finetuned"}
    assert np.mean([score(part)["accuracy"] for _, part in table.groupby("fold")]) > 0.75


def test_early_stopping_and_rates_are_settled_without_the_test_cells(bars: CellSet) -> None:
    stages = {"all": {"epochs": 3, "lr": [0.001, 0.003], "patience": 1}}
    labels, folds = bars.cells["label"].to_numpy(dtype=object), folds_of(bars)
    tested = np.isin(bars.ids, folds.query("fold == 0 and role == 'test'")["cell_id"])
    swapped = np.where(tested, np.where(labels == "dark-left", "bright-left", "dark-left"), labels)
    first, other = (run(bars, stages, each).query("fold == 0")["p_dark-left"] for each in (labels, swapped))
    assert first.equals(other)


def test_each_fold_starts_from_its_own_encoder_and_takes_so_many_of_a_class(
    bars: CellSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    fit = Trainer.fit

    def counted(self: Trainer, rows: np.ndarray, *args: object, **options: object) -> object:
        trained.append(len(rows))
        return fit(self, rows, *args, **options)

    asked: list[tuple[int, int]] = []

    def start(fold: tuple[int, int]) -> Encoder:
        asked.append(fold)
        return random_encoder("test_resnet", bars, size=16, seed=fold[1])

    monkeypatch.setattr(Trainer, "fit", counted)
    stages = {"all": {"epochs": 1, "lr": 0.001}}
    settings = FinetunePlan.of({**QUICK, "preset": None, "stages": stages, "max_per_class": 15}, "x").settings
    labels = bars.cells["label"].to_numpy(dtype=object)
    cross_validate_finetuned(bars, labels, folds_of(bars), name="two", encoder=start, settings=settings)
    assert asked == [(0, 0), (0, 1)]
    assert trained == [30, 30]


def test_a_plan_is_read_from_what_a_recipe_says() -> None:
    given = {"encoder": "random:resnet18", "size": 32, "preset": "full", "stages": {"all": {"epochs": 60}}}
    plan = FinetunePlan.of(given, "x", seed=3, device="cpu")
    assert (plan.encoder, plan.size, plan.settings.stages["all"].epochs) == ("random:resnet18", 32, 60)
    assert (plan.settings.seed, plan.settings.device, plan.settings.batch) == (3, "cpu", 32)
    assert FinetunePlan.of({"encoder": "x"}, "x").settings.dropout == 0.2
    with pytest.raises(InputError, match=r"tasks\.kinds\.finetune\.a: encoder: required, but not given"):
        FinetunePlan.of({"preset": "full"}, "tasks.kinds.finetune.a")
    with pytest.raises(InputError, match="unknown key 'bach'; did you mean 'batch'"):
        FinetunePlan.of({"encoder": "x", "bach": 3}, "x")
