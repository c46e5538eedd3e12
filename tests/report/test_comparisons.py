from dataclasses import replace

import pytest

from leukoscope.report.comparisons import p_value, significance_table
from leukoscope.report.evaluation import Evaluation


def test_both_tests_of_a_comparison_stand_in_one_row(run):
    evaluation = Evaluation.open(run)
    table = significance_table(evaluation, ("moco", "mlp"))
    rows = [row for group in table.groups for row in group.rows]
    assert 2 * len(rows) == len(evaluation.results["significance"])
    first = evaluation.results["significance"][0]
    corrected = next(
        test
        for test in evaluation.results["significance"]
        if test["test"] == "corrected_resampled_t" and (test["a"], test["b"]) == (first["a"], first["b"])
    )
    assert [field.text for field in rows[0][3:]] == [
        p_value(first["p"]),
        p_value(first["p_corrected"]),
        p_value(corrected["p"]),
        p_value(corrected["p_corrected"]),
    ]


def test_of_many_comparisons_those_of_the_leader_are_kept_and_the_rest_is_counted(run):
    evaluation = Evaluation.open(run)
    test = evaluation.results["significance"][0]
    many = [{**test, "a": f"moco/h{i}", "b": "moco/mlp" if i < 3 else "random/linear"} for i in range(60)]
    table = significance_table(
        replace(evaluation, results=evaluation.results | {"significance": many}), ("moco", "mlp")
    )
    assert len(table.groups[0].rows) == 3
    assert "Of 60 comparisons those with moco · mlp are shown" in table.note


def test_nothing_to_compare_gives_no_table(run):
    evaluation = Evaluation.open(run)
    assert significance_table(replace(evaluation, results={"significance": []}), ("moco", "mlp")) is None


@pytest.mark.parametrize(("p", "text"), [(None, "–"), (3e-5, "< 0.0001"), (0.04321, "0.0432"), (1.0, "1.0000")])
def test_p_values_read_as_in_papers(p, text):
    assert p_value(p) == text
