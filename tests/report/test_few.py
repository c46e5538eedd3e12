import json
from pathlib import Path

import pytest

from leukoscope.report.evaluation import Evaluation
from leukoscope.report.few import draw_few_labels, few_labels_table


@pytest.fixture
def evaluation(run: Path) -> Evaluation:
    return Evaluation.open(run)


def test_the_curve_and_its_table_say_what_results_json_says(evaluation: Evaluation, tmp_path: Path) -> None:
    picture = draw_few_labels(evaluation, tmp_path)
    assert picture is not None
    assert (tmp_path / "few-labels.svg").stat().st_size > 5000
    mean = evaluation.results["few_labels"]["scores"]["10"]["moco"]["linear"]["balanced_accuracy"]["mean"]
    assert f"from 10 to 100 labelled cells: moco {mean:.2f} to" in picture.alt
    table = few_labels_table(evaluation)
    assert table is not None
    assert table.columns == ["encoder", "head", "10", "100"]
    found = json.loads((evaluation.path / "results.json").read_text())["few_labels"]["scores"]["100"]["moco"]["mlp"]
    row = next(row for row in table.groups[0].rows if row[1].text == "mlp")
    assert row[3].text == f"{found['accuracy']['mean']:.3f}"
    assert row[3].small == f"± {found['accuracy']['sd']:.3f}"


def test_nothing_is_drawn_where_few_labels_were_not_tried(evaluation: Evaluation, tmp_path: Path) -> None:
    del evaluation.results["few_labels"]
    assert draw_few_labels(evaluation, tmp_path) is None
    assert few_labels_table(evaluation) is None
