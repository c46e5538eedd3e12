import numpy as np

from leukoscope.report.evaluation import Evaluation


def test_pairs_are_ranked_with_supervised_networks_last(run):
    evaluation = Evaluation.open(run)
    ranked = evaluation.ranked()
    assert ranked[-1] == ("supervised", "resnet18")
    means = [evaluation.score(pair, "balanced_accuracy")["mean"] for pair in ranked[:-1]]
    assert means == sorted(means, reverse=True)
    assert list(evaluation.leaders()) == [("moco", "mlp"), ("random", "linear"), ("supervised", "resnet18")]


def test_cells_get_one_answer_and_the_confusion_matrix_agrees_with_it(run):
    evaluation = Evaluation.open(run)
    cells = evaluation.of_cells(("moco", "mlp"))
    assert len(cells) == cells["cell_id"].nunique() == 150
    right = (cells["label"] == cells["predicted"]).sum()
    assert right == np.trace(evaluation.confusion(("moco", "mlp")))
