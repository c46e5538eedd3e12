import pytest

from leukoscope.study.sweep import trials


def test_without_a_sweep_there_is_one_nameless_trial() -> None:
    settings = {"size": 64, "train": {"lr": 0.1}}
    assert trials(settings) == {"": settings}


def test_every_combination_is_a_trial_named_by_its_keys() -> None:
    settings = {"size": {"sweep": [32, 64]}, "train": {"lr": {"sweep": [0.01, 0.05]}, "epochs": 3}}
    found = trials(settings)
    assert list(found) == [
        "size=32,train.lr=0.01",
        "size=32,train.lr=0.05",
        "size=64,train.lr=0.01",
        "size=64,train.lr=0.05",
    ]
    assert found["size=64,train.lr=0.01"] == {"size": 64, "train": {"lr": 0.01, "epochs": 3}}


def test_trials_share_nothing_that_one_could_change_for_another() -> None:
    first, second = trials({"train": {"lr": {"sweep": [0.01, 0.05]}}}).values()
    first["train"]["lr"] = 7
    assert second["train"]["lr"] == 0.05


@pytest.mark.parametrize("values", [5, [], {}])
def test_a_sweep_without_values_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match=r"train\.lr: sweep needs a list of values"):
        trials({"train": {"lr": {"sweep": values}}})
