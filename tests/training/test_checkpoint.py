from pathlib import Path

import pytest
import torch

from leukoscope.common.errors import InputError
from leukoscope.training.checkpoint import load_checkpoint, refuse_changed, save_checkpoint


def test_what_was_saved_is_loaded_and_nothing_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    assert load_checkpoint(path) is None
    save_checkpoint(path, {"step": 7, "method": {"w": torch.arange(3.0)}})
    state = load_checkpoint(path)
    assert state is not None
    assert state["step"] == 7
    assert torch.equal(state["method"]["w"], torch.arange(3.0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"checkpoint\.pt: not a checkpoint; give --overwrite"):
        load_checkpoint(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.mkdir, (Path(tmp_path / "boom"),)

    path = tmp_path / "checkpoint.pt"
    torch.save({"format_version": 1, "bomb": Bomb()}, path)
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(path)
    assert not (tmp_path / "boom").exists()


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"format_version": 99}, path)
    with pytest.raises(InputError, match="a checkpoint of another version"):
        load_checkpoint(path)


def test_the_first_changed_key_is_named(tmp_path: Path) -> None:
    before = {"size": 64, "train": {"lr": 0.1, "epochs": 3}}
    refuse_changed(before, before, tmp_path)
    with pytest.raises(InputError, match=r"this run began with train\.lr = 0\.1, not 0\.2; give that value to go on"):
        refuse_changed(before, {"size": 64, "train": {"lr": 0.2, "epochs": 3}}, tmp_path)
    with pytest.raises(InputError, match="began with policy = None, not ifc"):
        refuse_changed(before, {**before, "policy": "ifc"}, tmp_path)
