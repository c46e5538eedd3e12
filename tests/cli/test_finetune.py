import json
from collections.abc import Callable
from pathlib import Path

import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.common.settings import read_yaml

QUICK = ["--size", "16", "--batch", "20", "--test-share", "0.3", "--device", "cpu", "--n-bootstrap", "20", "--no-maps"]
FEW = ["--set", "stages.all.epochs=1", "--set", "stages.head.epochs=1"]


def test_an_encoder_is_fine_tuned_tested_and_taken_by_classify(
    bars: CellSet, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    code = leukoscope("finetune", bars.path, "random:test_resnet", run, *QUICK, *FEW, "--max-per-class", "50", "--json")
    assert code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["cells", "n", "loss"]
    assert [line.split()[0] for line in lines[1:4]] == ["train", "validation", "test"]
    assert lines[4].startswith("train to test: accuracy ")
    told = json.loads(lines[-1])
    assert told["parts"]["train"]["n"] == 100
    recipe = read_yaml(run / "recipe.yaml")
    assert (recipe["batch"], recipe["stages"]["head"]["epochs"], recipe["dropout"]) == (20, 1, 0.2)
    page = Path(told["report"]).read_text(encoding="utf-8")
    assert "Encoders fine-tuned with the labels of the training cells" in page
    assert "The best frozen encoder" not in page
    assert "how far they move towards the test cells" in page
    assert "20 resamples of 3 slide groups" in page
    capsys.readouterr()
    assert leukoscope("classify", bars.path, run / "encoder", run / "classifier", tmp_path / "sample") == 0
    assert "200 cells" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "ful"], "settings: no preset 'ful'; did you mean 'full'?"),
        (["--set", "stages.all.epoch=3"], "unknown key 'stages.all.epoch'; did you mean 'epochs'?"),
        (["--split", "slide"], "--split slide: says s0, s1, s2, s3; it must say train and test"),
        (["--group", "patient"], "--group patient: no such column"),
        (["--test-share", "1.5"], "the shares must be positive and sum to 1"),
        (["--validation-share", "1"], "inner_share: input should be less than 1"),
        (["--recipe", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(
    bars: CellSet, tmp_path: Path, mistake: Callable[..., str], options: list[str], message: str
) -> None:
    assert message in mistake("finetune", bars.path, "random:test_resnet", tmp_path / "run", *QUICK, *options)
    assert not (tmp_path / "run").exists()


def test_from_scratch_means_from_random_weights(
    bars: CellSet, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "run" / "encoder"
    assert leukoscope("finetune", bars.path, "random:test_resnet", tmp_path / "run", *QUICK, *FEW) == 0
    assert leukoscope("finetune", bars.path, bundle, tmp_path / "other", "--preset", "scratch") == 2
    assert (
        f"--preset scratch: starts from random weights; give random:test_resnet for {bundle}" in capsys.readouterr().err
    )
