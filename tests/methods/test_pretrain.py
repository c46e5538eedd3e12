import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import Block
from torch import Tensor

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.common.errors import CheckFailed, InputError
from leukoscope.common.files import read_json
from leukoscope.encoders.backbone import create_backbone
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.stem import FoldedStem
from leukoscope.methods.pretrain import pretrain
from leukoscope.methods.pretrain_settings import PretrainSettings
from leukoscope.training.history import read_history

SMALL = {
    "backbone": "test_resnet",
    "size": 24,
    "method_settings": {"queue": 32, "norm_groups": 2},
    "train": {"epochs": 3, "batch": 8, "log_steps": 2, "monitor_cells": 32, "device": "cpu", "precision": "fp32"},
}


def settings(**train: object) -> PretrainSettings:
    return PretrainSettings.parse({**SMALL, "train": {**SMALL["train"], **train}}, where="test")


def command(cells: Path, out: Path, *more: str) -> list[str]:
    options = [
        *("--backbone", "test_resnet", "--size", "24", "--batch", "8", "--device", "cpu", "--epochs", "3"),
        *("--set", "method_settings.queue=32", "--set", "method_settings.norm_groups=2"),
        *("--set", "train.log_steps=1", "--set", "train.checkpoint_minutes=0.0001", "--set", "train.monitor_cells=32"),
    ]
    return [str(Path(sys.executable).with_name("leukoscope")), "pretrain", str(cells), str(out), *options, *more]


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def kill_after_step(process: subprocess.Popen[bytes], steps: Path, step: int) -> None:
    """Send kill -9 once ``step`` is logged."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if steps.exists() and len(steps.read_text().splitlines()) > step:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.005)
    process.kill()
    raise AssertionError("the run never came so far")


def test_killed_and_started_again_it_ends_with_the_same_bits(few_cells: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    straight = subprocess.Popen(command(few_cells, whole), env=one_thread())
    for step in (5, 14):  # within the first epoch, and within the second
        process = subprocess.Popen(command(few_cells, killed), env=one_thread())
        kill_after_step(process, killed / "steps.csv", step)
    assert not (killed / "encoder").exists()
    subprocess.run(command(few_cells, killed), env=one_thread(), check=True)
    assert straight.wait() == 0
    weights = "encoder/encoder.safetensors"
    assert (killed / weights).read_bytes() == (whole / weights).read_bytes()
    assert (killed / "history.csv").read_text() == (whole / "history.csv").read_text()
    assert [row["step"] for row in read_history(killed / "steps.csv")] == [str(step) for step in range(24)]
    assert "going on at step" in (killed / "log.txt").read_text()


def test_it_leaves_a_bundle_and_a_whole_run_folder(few_cells: Path, tmp_path: Path) -> None:
    cells = CellSet.open(few_cells)
    path = pretrain([cells], tmp_path / "run", settings=settings())
    assert path == tmp_path / "run" / "encoder"
    encoder = Encoder.load(path)
    assert encoder.info.method == "moco"
    assert encoder.info.pixels_fingerprint == cells.pixels_fingerprint
    assert encoder.info.mean == encoder.info.std == (0.5,)
    assert encoder.features(torch.from_numpy(cells.read(slice(0, 4)))).shape == (4, encoder.info.feature_dim)
    results = read_json(tmp_path / "run" / "results.json")
    assert results["n"] == 64
    assert set(results["final"]) == {
        *("loss", "top1", "spread", "rankme", "knn"),
        *("alignment", "uniformity"),
    }
    assert results["provenance"]["fingerprints"] == {"few.set": cells.pixels_fingerprint}


def test_a_truncated_backbone_is_trained_and_saved_truncated(few_cells: Path, tmp_path: Path) -> None:
    path = pretrain(
        [CellSet.open(few_cells)],
        tmp_path / "run",
        settings=settings(epochs=1).model_copy(update={"truncate_after": 2}),
    )
    encoder = Encoder.load(path)
    assert encoder.info.truncate_after == encoder.info.recipe["truncate_after"] == 2
    assert encoder.info.feature_dim == encoder.backbone.feature_info[-1]["num_chs"]
    assert "layer3.0.conv1.weight" not in encoder.backbone.state_dict()


def test_weights_of_photographs_are_trained_on(few_cells: Path, tmp_path: Path) -> None:
    """Their normalisation is folded into a stem that pads; it is kept to the end."""
    state = create_backbone("resnet18", channels=3, seed=1).state_dict()
    save_file(state, tmp_path / "photographs.safetensors")
    began = {"backbone": "resnet18", "weights": str(tmp_path / "photographs.safetensors")}
    trained = settings(epochs=1).model_copy(update=began)
    encoder = Encoder.load(pretrain([CellSet.open(few_cells)], tmp_path / "run", settings=trained))
    assert isinstance(encoder.backbone.conv1, FoldedStem)
    assert encoder.info.licence == "unknown"


def test_a_finished_run_is_not_trained_again(few_cells: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "run"
    pretrain([CellSet.open(few_cells)], out, settings=settings(epochs=1))
    before = (out / "encoder" / "encoder.safetensors").stat().st_mtime_ns
    with caplog.at_level(logging.WARNING, logger="leukoscope"):
        pretrain([CellSet.open(few_cells)], out, settings=settings(epochs=1))
    assert "this run is finished already; give --overwrite to train again" in caplog.text
    assert (out / "encoder" / "encoder.safetensors").stat().st_mtime_ns == before
    pretrain([CellSet.open(few_cells)], out, settings=settings(epochs=1, seed=1), overwrite=True)
    assert (out / "encoder" / "encoder.safetensors").stat().st_mtime_ns > before


def test_other_settings_or_cells_do_not_go_on_with_a_run(few_cells: Path, tmp_path: Path) -> None:
    cells, out = CellSet.open(few_cells), tmp_path / "run"
    pretrain([cells], out, settings=settings(epochs=1))
    with pytest.raises(InputError, match=r"this run began with train\.lr = 0\.03, not 0\.1; give that value to go on"):
        pretrain([cells], out, settings=settings(epochs=1, lr=0.1))
    with pytest.raises(InputError, match="this run began with cells"):
        pretrain([cells.where("label=LYM")], out, settings=settings(epochs=1))
    pretrain([cells], out, settings=settings(epochs=1, log_steps=7, checkpoint_minutes=9))


def test_a_run_that_could_not_begin_is_begun_with_a_setting_put_right(few_cells: Path, tmp_path: Path) -> None:
    cells, out = CellSet.open(few_cells), tmp_path / "run"
    with pytest.raises(InputError, match="do not fill one batch"):
        pretrain([cells], out, settings=settings(epochs=1, batch=4096))
    assert pretrain([cells], out, settings=settings(epochs=1)) == out / "encoder"
    assert "batch: 8" in (out / "recipe.yaml").read_text()


def test_a_run_of_an_older_version_is_gone_on_with(few_cells: Path, tmp_path: Path) -> None:
    """Keys that came since are not in its recipe; they have their defaults."""
    cells, out = CellSet.open(few_cells), tmp_path / "run"
    pretrain([cells], out, settings=settings(epochs=1))
    kept = [line for line in (out / "recipe.yaml").read_text().splitlines() if "gamma" not in line]
    (out / "recipe.yaml").write_text("\n".join(kept))
    pretrain([cells], out, settings=settings(epochs=1))
    with pytest.raises(InputError, match=r"this run began with train\.gamma = 0\.1, not 0\.5"):
        pretrain([cells], out, settings=settings(epochs=1, gamma=0.5))


def test_a_folder_of_something_else_is_not_written_into(few_cells: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already; choose another name or give --overwrite"):
        pretrain([CellSet.open(few_cells)], tmp_path, settings=settings())
    with pytest.raises(InputError, match="holds something else"):
        pretrain([CellSet.open(few_cells)], tmp_path, settings=settings(), overwrite=True)
    assert (tmp_path / "notes.txt").exists()


def test_a_run_is_not_deleted_for_one_that_cannot_begin(few_cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    pretrain([CellSet.open(few_cells)], out, settings=settings(epochs=1))
    with pytest.raises(InputError, match="do not fill one batch"):
        pretrain([CellSet.open(few_cells)], out, settings=settings(batch=4096), overwrite=True)
    assert (out / "encoder" / "encoder.json").exists()


def test_a_run_that_diverges_says_so(few_cells: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="diverged in epoch 1: the loss is nan"):
        pretrain([CellSet.open(few_cells)], tmp_path / "run", settings=settings(epochs=1, lr=1e30))


def test_a_policy_of_other_views_than_the_method_takes_is_refused() -> None:
    with pytest.raises(InputError, match="policy makes 3 views a cell, and moco takes 2"):
        PretrainSettings.parse({"policy": {"views": [{"count": 3}]}}, where="x")


def test_sixteen_bits_and_several_sets_train_together(tmp_path: Path) -> None:
    sets = [simulate(tmp_path / f"{seed}.set", cells=24, size=24, bit_depth=12, seed=seed, jobs=1) for seed in (0, 1)]
    chosen = PretrainSettings.parse({**settings(epochs=1).model_dump(), "normalise": "set"}, where="test")
    encoder = Encoder.load(pretrain(sets, tmp_path / "run", settings=chosen))
    assert encoder.info.bit_depth == 12
    means = [cellset.info.mean[0] for cellset in sets]
    assert min(means) <= encoder.info.mean[0] <= max(means)
    assert encoder.info.pixels_fingerprint == "+".join(cellset.pixels_fingerprint for cellset in sets)


def test_a_setting_of_the_method_that_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match=r"method_settings: unknown key 'temprature'; did you mean 'temperature'"):
        PretrainSettings.parse({"method_settings": {"temprature": 1}}, where="x")


def test_two_processes_keep_one_queue_and_learn_as_one(few_cells: Path, tmp_path: Path) -> None:
    """Two gloo processes of 16 cells each against one of 32: equal statistics and steps, one queue of every cell.

    Two steps only: batch norm over few values amplifies rounding, so longer runs part whatever the code does.
    """
    alone, pair = tmp_path / "alone", tmp_path / "pair"
    more = ("--set", "train.epochs=1", "--set", "train.batch=32", "--set", "train.precision=fp32")
    for out, devices in ((alone, "1"), (pair, "2")):
        subprocess.run(command(few_cells, out, *more, "--devices", devices), env=one_thread(), check=True, timeout=300)
    one, two = (torch.load(out / "checkpoint.pt", weights_only=True)["method"] for out in (alone, pair))
    # One process with two groups, or two with one each: the same cells in the same order.
    assert torch.equal(one["queue.cells"], two["queue.cells"])
    assert torch.allclose(one["queue.keys"], two["queue.keys"], atol=1e-4)
    weights = [name for name in one if name.endswith((".weight", ".bias"))]
    assert len(weights) > 40
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in weights)
    losses = [float(read_history(out / "history.csv")[0]["loss"]) for out in (alone, pair)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    Encoder.load(pair / "encoder")


def test_two_processes_train_the_head_alone_as_one_does(few_cells: Path, tmp_path: Path) -> None:
    """A step of the head, whose gradient leaves the encoder out, and one of both; wholly without batch norms."""
    alone, pair = tmp_path / "alone", tmp_path / "pair"
    recipe = (
        *("--method", "supcon", "--backbone", "test_vit", "--size", "32", "--epochs", "2", "--batch", "64"),
        *("--set", "method_settings={dim: 8, dropout: 0, head_epochs: 1}", "--set", "train.weight_decay=0.1"),
        *("--set", "train.monitor_cells=0", "--device", "cpu", "--set", "train.precision=fp32"),
    )
    for out, devices in ((alone, "1"), (pair, "2")):
        verb = [*command(few_cells, out)[:4], *recipe, "--devices", devices]
        subprocess.run(verb, env=one_thread(), check=True, timeout=300)
    one, two = (torch.load(out / "checkpoint.pt", weights_only=True)["method"] for out in (alone, pair))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_activations_made_anew_change_nothing(few_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transformer, which has no batch norm to count twice; dropped paths are drawn alike in both passes."""
    found, passes = [], [0, 0]
    forward = Block.forward

    def counted(self: Block, x: Tensor) -> Tensor:
        passes[recompute] += 1
        return forward(self, x)

    monkeypatch.setattr(Block, "forward", counted)
    for recompute in (False, True):
        chosen = PretrainSettings.parse(
            {
                "method": "dino",
                "method_settings": {"outputs": 16, "hidden": 16, "bottleneck": 8, "frozen_epochs": 0},
                "backbone": "test_vit",
                "size": 32,
                "drop_path": 0.3,
                "policy": {"views": [{"count": 2, "rotation": {"degrees": 180}}]},
                "train": {
                    "epochs": 2,
                    "batch": 16,
                    "device": "cpu",
                    "precision": "fp32",
                    "monitor_cells": 0,
                    "recompute": recompute,
                },
            },
            where="test",
        )
        found.append(Encoder.load(pretrain([CellSet.open(few_cells)], tmp_path / str(recompute), settings=chosen)))
    for a, b in zip(found[0].backbone.parameters(), found[1].backbone.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    # Two global views pass as one batch: a student and a teacher each step, and the student again going back.
    steps, blocks = 8, 6
    assert passes[1] - passes[0] == steps * blocks
