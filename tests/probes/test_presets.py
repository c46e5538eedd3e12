import pytest

from leukoscope.common.errors import InputError
from leukoscope.probes.presets import preset_names, stage_settings
from leukoscope.views.policy import Policy


def test_presets_hold_the_numbers_of_their_papers() -> None:
    two, full, scratch = (stage_settings(name, {}, "x") for name in ("two-step", "full", "scratch"))
    # hairy-cells-supcon, HAL-T3002: tables 4.4 and 4.5, sections 4.1 and 4.1.1.
    assert [(s.trains, s.epochs, s.lr) for s in two.stages.values()] == [("head", 6, (0.001,)), ("all", 5, (0.0001,))]
    assert (two.dropout, two.batch, two.max_per_class, two.inner_share) == (0.2, 25, 5000, 0.2)
    assert two.policy == Policy.load("smear-small")
    # hcs-quality-control, section 3.3.
    (all_,) = full.stages.values()
    assert (all_.epochs, all_.lr, all_.optimiser, all_.momentum) == (50, (0.001,), "sgd", 0.9)
    assert (all_.schedule, all_.milestones, all_.gamma, full.batch) == ("step", (25, 40), 0.1, 32)
    # hairy-cells-supcon, HAL-R: table 4.6, section 4.2.6.
    (all_,) = scratch.stages.values()
    assert (all_.epochs, all_.lr, all_.patience, scratch.dropout, scratch.batch) == (100, (0.001,), 3, 0.2, 25)
    assert preset_names() == ["frozen", "full", "scratch", "two-step"]


def test_changes_lie_over_a_preset_key_by_key() -> None:
    changes = {"stages": {"all": {"epochs": 9, "lr": ["1e-4", 1e-5]}}, "batch": 4}
    found = stage_settings("two-step", changes, "x", overrides=["stages.head.lr=0.01", "policy=ifc"])
    assert (found.stages["all"].epochs, found.stages["all"].hold_norms, found.batch) == (9, True, 4)
    assert found.rates == [(0.01, 1e-4), (0.01, 1e-5)]
    assert found.policy == Policy.load("ifc")
    alone = stage_settings(None, {"stages": {"only": {"trains": "head", "epochs": 2, "lr": 0.1}}}, "x")
    assert list(alone.stages) == ["only"]
    assert not alone.trains_encoder


def test_mistakes_are_named() -> None:
    with pytest.raises(
        InputError, match=r"x: no preset 'twostep'; did you mean 'two-step'\? Known: frozen, full, scratch, two"
    ):
        stage_settings("twostep", {}, "x")
    with pytest.raises(InputError, match="x: stages: required, but not given"):
        stage_settings(None, {}, "x")
    with pytest.raises(InputError, match=r"unknown key 'stages\.all.milestone'; did you mean 'milestones'"):
        stage_settings("full", {}, "x", overrides=["stages.all.milestone=[3]"])
    with pytest.raises(InputError, match=r"stages\.all: milestones 25, 40 must rise, above 0 and below epochs 30"):
        stage_settings("full", {}, "x", overrides=["stages.all.epochs=30"])
