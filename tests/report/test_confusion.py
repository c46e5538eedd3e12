import re

import numpy as np

from leukoscope.report.confusion import draw_confusion, worst_confusions
from leukoscope.report.evaluation import Evaluation


def test_counts_and_shares_of_the_row_are_written_into_the_fields(run, tmp_path):
    evaluation = Evaluation.open(run)
    picture = draw_confusion(evaluation, ("moco", "linear"), tmp_path)
    drawn = re.findall(r"<!-- (.*?) -->", (tmp_path / picture.file).read_text())
    counts = evaluation.confusion(("moco", "linear"))
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    for count, share in zip(counts.flat, shares.flat, strict=True):
        assert f"{count:,}" in drawn
        assert f"{share:.1f} %" in drawn


def test_the_worst_confusions_are_told_by_share_of_the_true_class():
    counts = np.array([[90, 10, 0], [0, 4, 1], [0, 0, 0]])
    assert worst_confusions(counts, ["A", "B", "C"]) == (
        "Most frequent confusions: B taken for C: 1 (20.0 %); A taken for B: 10 (10.0 %)."
    )
    assert worst_confusions(np.eye(2, dtype=int), ["A", "B"]) == "No cell was confused."
