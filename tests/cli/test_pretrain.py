from collections.abc import Callable
from pathlib import Path

import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.common.settings import read_yaml

SMALL = ["--size", "32", "--batch", "8", "--epochs", "1", "--backbone", "resnet10t", "--device", "cpu"]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    return simulate(tmp_path_factory.mktemp("cells") / "c.set", cells=16, size=32, patients=2)


def test_flags_lie_over_the_recipe_and_leave_the_rest_of_it(
    cells: CellSet, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("train: {lr: 0.5, device: cpu, monitor_cells: 0}\nmethod_settings: {queue: 8, norm_groups: 2}\n")
    flags = ["--recipe", recipe, *SMALL[:-2], "--lr", "0.01"]
    assert leukoscope("pretrain", cells.path, tmp_path / "run", *flags) == 0
    told = read_yaml(tmp_path / "run" / "recipe.yaml")
    assert (told["train"]["lr"], told["train"]["device"], told["method_settings"]["queue"]) == (0.01, "cpu", 8)
    assert f"{tmp_path / 'run' / 'encoder'}: loss" in capsys.readouterr().out


def test_several_sets_are_drawn_as_often_as_told(
    cells: CellSet, tmp_path: Path, leukoscope: Callable[..., int]
) -> None:
    other = simulate(tmp_path / "other.set", cells=16, size=32, seed=1)
    flags = ["--weight", "1", "--weight", "3", "--set", "train.monitor_cells=0"]
    more = ["--set", "method_settings.queue=8", "--set", "method_settings.norm_groups=2"]
    assert leukoscope("pretrain", cells.path, other.path, tmp_path / "run", *SMALL, *flags, *more) == 0
    assert read_yaml(tmp_path / "run" / "recipe.yaml")["set_weights"] == [1.0, 3.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "mocco"], "method 'mocco'"),
        (["--backbone", "resnet81"], "backbone 'resnet81': timm has none of that name; did you mean 'resnet18'?"),
        (["--policy", "nowhere.yaml"], "nowhere.yaml"),
        (["--batch", "64"], "16 cells do not fill one batch of 64; give a smaller --batch"),
        (["--weight", "1", "--weight", "2"], "weights: 1 CellSets need as many weights above zero (given: [1.0, 2.0])"),
        (["--set", "train.epoch=3"], "unknown key 'train.epoch'; did you mean 'epochs'?"),
        (["--set", "method_settings.norm_groups=3"], "norm_groups 3: a batch of 8 cells on one device does not split"),
        (["--only", "kind=NEU"], "no column 'kind' in cells.parquet; it has cell_id, source, label"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(
    cells: CellSet, tmp_path: Path, mistake: Callable[..., str], options: list[str], message: str
) -> None:
    assert message in mistake("pretrain", cells.path, tmp_path / "run", *SMALL, *options)
    assert not (tmp_path / "run" / "encoder").exists()
