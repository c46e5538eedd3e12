import json
from pathlib import Path

import pytest

from leukoscope.report.distrust import doubts
from leukoscope.report.evaluation import Evaluation

LEADER = ("moco", "mlp")


@pytest.fixture
def altered(run: Path, tmp_path: Path):
    """The evaluation with other results: ``altered(group="patient")``."""

    def alter(**changes):
        for path in run.iterdir():
            if path.is_file() and path.name != "report.html":
                (tmp_path / path.name).write_bytes(path.read_bytes())
        results = json.loads((run / "results.json").read_text()) | changes
        (tmp_path / "results.json").write_text(json.dumps(results))
        return Evaluation.open(tmp_path)

    return alter


def _titles(evaluation: Evaluation, audit=None) -> list[str]:
    return [doubt.title for doubt in doubts(evaluation, LEADER, audit=audit)]


def test_a_spoiled_audit_comes_first_and_a_clean_one_is_not_mentioned(altered):
    assert _titles(altered(), {"spoiled": True})[0] == "The audit calls this evaluation spoiled."
    assert not any("audit" in title for title in _titles(altered(), {"spoiled": False}))


@pytest.mark.parametrize(
    ("seen", "title"),
    [
        ("unknown", "It is not known which cells moco saw in pre-training."),
        ("all", "moco was pre-trained on these very cells."),
        (12, "moco was pre-trained on 12 of these cells."),
    ],
)
def test_overlap_with_pre_training_is_told(altered, seen, title):
    origins = {"moco": {"seen_in_pretraining": seen}, "random": {"seen_in_pretraining": "none"}}
    assert title in _titles(altered(encoders=origins))


def test_folds_that_follow_patients_are_trusted_unless_patients_are_few(altered):
    assert "Folds do not follow patients." in _titles(altered())
    many = {"resampled": "groups", "units": 40, "resamples": 100}
    assert not any("patient" in title for title in _titles(altered(group="patient", intervals=many)))
    assert "Only 7 groups (patient)." in _titles(altered(group="patient", intervals=many | {"units": 7}))


def test_small_classes_low_recall_and_wide_intervals_are_named(altered):
    evaluation = altered()
    counts = evaluation.confusion(LEADER)
    counts[1] = [counts[1].sum(), 0, 0, 0, 0]
    confusion = evaluation.results["confusion"]
    confusion["moco"]["mlp"] = counts.tolist()
    found = doubts(altered(confusion=confusion), LEADER, audit=None)
    low = next(doubt for doubt in found if doubt.title == "Low recall: EOS (0.00).")
    assert f"EOS taken for BAS: {counts[1].sum()} (100.0 %)" in low.text
    assert any(doubt.title.startswith("Few cells: BAS (27)") for doubt in found)
    assert any(doubt.title.startswith("Wide interval: 0.") for doubt in found)


def test_the_floor_is_the_largest_class(altered):
    floor = next(d for d in doubts(altered(), LEADER, audit=None) if d.title == "Accuracy has a floor.")
    assert "Always answering NEU gives accuracy 0.280" in floor.text
    assert "without looking is 0.200" in floor.text
