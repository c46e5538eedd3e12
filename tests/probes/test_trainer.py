import numpy as np
import pytest
import torch
from torch import nn

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import CheckFailed, InputError
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.probes.best import Best
from leukoscope.probes.encoder_head import EncoderWithHead, start_from
from leukoscope.probes.stages import StageSettings
from leukoscope.probes.trainer import Plan, Told, Trainer
from leukoscope.probes.tuning import inner_split, tune

HEAD = {"trains": "head", "epochs": 2, "lr": 0.01}
ALL = {"epochs": 2, "lr": 0.001}


@pytest.fixture(scope="module")
def encoder(discs: CellSet) -> Encoder:
    return random_encoder("test_resnet", discs, size=16)


def settings_of(stages: dict[str, dict[str, object]], **others: object) -> StageSettings:
    given = {"batch": 8, "policy": "smear-small", "dropout": 0.2, "device": "cpu", "stages": stages, **others}
    return StageSettings.parse(given, where="stages")


def trainer_of(cells: CellSet, encoder: Encoder, settings: StageSettings, told: list[Told] | None = None) -> Trainer:
    truth = torch.from_numpy((cells.cells["label"] == "large").to_numpy().astype(np.int64))
    start = start_from(encoder, 2, dropout=settings.dropout, seed=settings.seed)
    return Trainer(start, cells, truth, settings, None if told is None else told.append)


def same(a: nn.Module, b: nn.Module) -> set[str]:
    """The names of the tensors, parameters and buffers, that are the same bit by bit."""
    other = b.state_dict()
    return {name for name, value in a.state_dict().items() if torch.equal(value, other[name])}


def test_while_the_head_learns_every_tensor_of_the_encoder_stays(discs: CellSet, encoder: Encoder) -> None:
    trainer = trainer_of(discs, encoder, settings_of({"head": HEAD}))
    network, _ = trainer.fit(np.arange(40), Plan.whole(trainer.settings, (0.01,)))
    start = trainer.start.build()
    assert same(network, start) == {f"encoder.{name}" for name in encoder.backbone.state_dict()}
    assert any("running_mean" in name for name in encoder.backbone.state_dict())


def test_then_everything_learns_and_norms_may_be_held(discs: CellSet, encoder: Encoder) -> None:
    for hold in (False, True):
        trainer = trainer_of(discs, encoder, settings_of({"head": HEAD, "all": {**ALL, "hold_norms": hold}}))
        network, _ = trainer.fit(np.arange(40), Plan.whole(trainer.settings, (0.01, 0.001)))
        kept = same(network, trainer.start.build())
        statistics = {name for name, _ in network.named_buffers()}
        assert kept == (statistics if hold else set())


def test_stages_have_rates_and_schedules_of_their_own(discs: CellSet, encoder: Encoder) -> None:
    steps = {"epochs": 4, "lr": 0.001, "schedule": "step", "milestones": [1, 3], "optimiser": "sgd"}
    told: list[Told] = []
    trainer = trainer_of(discs, encoder, settings_of({"head": HEAD, "all": steps}), told)
    trainer.fit(np.arange(24), Plan.whole(trainer.settings, (0.01, 0.001)))
    assert [(row["stage"], row["epoch"]) for row in told] == [
        *(("head", epoch) for epoch in (1, 2)),
        *(("all", epoch) for epoch in (3, 4, 5, 6)),
    ]
    assert [row["lr"] for row in told] == pytest.approx([0.01, 0.01, 0.001, 1e-4, 1e-4, 1e-5])


def test_the_best_epoch_is_kept_and_patience_ends_a_stage() -> None:
    network, best = nn.Linear(1, 1), Best(2)
    for epoch, loss in enumerate((3.0, 1.0, 2.0, 1.5)):
        assert not best.ended
        nn.init.constant_(network.weight, epoch)
        best.see(loss, network)
    assert best.ended
    assert best.restore(network) == 2
    assert network.weight.item() == 1.0


def test_a_stage_goes_back_to_its_best_epoch_and_trains_as_long_anew(discs: CellSet, encoder: Encoder) -> None:
    told: list[Told] = []
    # A rate that overshoots: the validation loss falls, rises, and stays above.
    stages = {"all": {"epochs": 30, "lr": 0.05, "patience": 2}}
    trainer = trainer_of(discs, encoder, settings_of(stages, policy=None, dropout=0.0), told)
    fit, watch = np.arange(60), np.arange(60, 120)
    network, plan = trainer.fit(fit, Plan.whole(trainer.settings, (0.05,)), watch=watch)
    losses = [row["validation_loss"] for row in told]
    best = int(np.argmin(losses))
    assert plan.epochs == (best + 1,)
    assert len(losses) == min(30, best + 1 + 2) < 30
    assert trainer.scores(trainer.predict(network, watch), watch)[0] == losses[best]
    again, _ = trainer.fit(fit, plan)
    assert same(again, network) == set(network.state_dict())


def test_what_is_cut_short_follows_the_schedule_of_the_whole(discs: CellSet, encoder: Encoder) -> None:
    told: list[Told] = []
    trainer = trainer_of(discs, encoder, settings_of({"all": {**ALL, "epochs": 10, "schedule": "cosine"}}), told)
    trainer.fit(np.arange(24), Plan((0.001,), (5,)))
    assert len(told) == 5
    assert told[-1]["lr"] == pytest.approx(0.0005, rel=0.2)


def test_dropout_and_views_are_drawn_by_the_seed_alone(discs: CellSet, encoder: Encoder) -> None:
    stages = {"head": HEAD, "all": ALL}
    networks = []
    for seed, torchs in ((0, 1), (0, 2), (3, 1)):
        torch.manual_seed(torchs)
        trainer = trainer_of(discs, encoder, settings_of(stages, seed=seed))
        networks.append(trainer.fit(np.arange(40), Plan.whole(trainer.settings, (0.01, 0.001)))[0])
    assert same(networks[0], networks[1]) == set(networks[0].state_dict())
    assert "linear.weight" not in same(networks[0], networks[2])


def test_the_best_rates_are_chosen_and_those_that_diverge_passed_over(discs: CellSet, encoder: Encoder) -> None:
    stages = {
        "head": {**HEAD, "epochs": 1, "lr": [1e-9, 0.01]},
        "all": {**ALL, "epochs": 1, "lr": [0.003, 1e30], "optimiser": "sgd"},
    }
    settings = settings_of(stages, choose_by="accuracy")
    trainer = trainer_of(discs, encoder, settings)
    tuned = tune(trainer, *inner_split(trainer, np.arange(120), None))
    assert len(tuned.tried) == 2
    assert tuned.plan.rates[1] == 0.003
    best = max(tuned.tried, key=lambda row: row["accuracy"])
    assert best["rates"] == f"{tuned.plan.rates[0]:g} 0.003"
    hopeless = trainer_of(discs, encoder, settings_of({"all": {**ALL, "lr": [1e30, 1e31], "optimiser": "sgd"}}))
    with pytest.raises(CheckFailed, match="every combination of learning rates diverged"):
        tune(hopeless, *inner_split(hopeless, np.arange(120), None))


def test_a_rate_that_diverges_in_its_last_step_is_passed_over(discs: CellSet, encoder: Encoder) -> None:
    """One step in all, whose loss is still a number."""
    stages = {"all": {**ALL, "epochs": 1, "lr": [1e38, 0.003], "optimiser": "sgd"}}
    trainer = trainer_of(discs, encoder, settings_of(stages, batch=120))
    tuned = tune(trainer, *inner_split(trainer, np.arange(120), None))
    assert tuned.plan.rates == (0.003,)
    assert np.isfinite(tuned.probabilities).all()


def test_the_inner_split_keeps_slides_whole(discs: CellSet, encoder: Encoder) -> None:
    trainer = trainer_of(discs, encoder, settings_of({"all": ALL}, inner_share=0.25))
    slide = discs.cells.set_index("cell_id")["slide"]
    fit, choose = inner_split(trainer, np.arange(120), slide)
    assert sorted([*fit, *choose]) == list(range(120))
    slides = discs.cells["slide"].to_numpy()
    assert not set(slides[fit]) & set(slides[choose])
    one = np.flatnonzero(slides == "S0")
    with pytest.raises(InputError, match="30 training cells cannot be split into some to fit on and some to choose by"):
        inner_split(trainer, one, slide)


def test_the_head_alone_is_what_the_network_says(discs: CellSet, encoder: Encoder) -> None:
    network = EncoderWithHead(encoder.backbone, 3, dropout=0.5, seed=0).eval()
    pixels = torch.from_numpy(discs.read(np.arange(5)))
    features = encoder.features(pixels)
    expected = network(encoder.prepare(pixels)).softmax(dim=1)
    assert torch.allclose(network.head.probabilities(features), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stages": {}}, "stages: dictionary should have at least 1 item"),
        ({"stages": {"all": {**ALL, "milestones": [1]}}}, "stages.all: milestones and schedule step go together"),
        ({"stages": {"all": {**ALL, "epoch": 3}}}, "unknown key 'stages.all.epoch'; did you mean 'epochs'?"),
        ({"stages": {"all": {**ALL, "lr": []}}}, "stages.all.lr: tuple should have at least 1 item"),
        ({"stages": {"all": {**ALL, "lr": -1}}}, "stages.all.lr.0: input should be greater than 0"),
        ({"stages": {"all": {**ALL, "trains": "tail"}}}, "stages.all.trains: input should be 'head' or 'all'"),
        ({"stages": {"all": ALL}, "policy": "smears"}, "policy 'smears': no such policy; did you mean"),
    ],
)
def test_mistakes_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StageSettings.parse(given, where="x")
