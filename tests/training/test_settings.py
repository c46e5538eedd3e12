import pytest

from leukoscope.common.errors import InputError
from leukoscope.training.settings import TrainSettings


def test_the_warm_up_must_end_before_training_does() -> None:
    with pytest.raises(InputError, match=r"x: settings: warmup_epochs 5 must be shorter than epochs 5"):
        TrainSettings.parse({"epochs": 5, "warmup_epochs": 5}, where="x")


def test_a_batch_is_shared_evenly() -> None:
    with pytest.raises(InputError, match="batch 10 cannot be shared evenly by 4 devices"):
        TrainSettings.parse({"batch": 10, "devices": 2, "nodes": 2}, where="x")


def test_a_misspelt_key_gets_a_hint() -> None:
    with pytest.raises(InputError, match="unknown key 'optimizer'; did you mean 'optimiser'"):
        TrainSettings.parse({"optimizer": "sgd"}, where="x")


def test_lars_needs_a_weight_decay_to_scale_by() -> None:
    with pytest.raises(InputError, match="lars scales the rates of decayed weights alone: give weight_decay above 0"):
        TrainSettings.parse({"optimiser": "lars", "weight_decay": 0}, where="x")
