import numpy as np

from leukoscope.report.evaluation import Evaluation


def test_pairs_are_ranked_with_supervised_networks_last(run):
    evaluation = Evaluation.open(run)
    ranked = evaluation.ranked()
    assert ranked[-1] == ("supervised", "resnet18")
    means = [evaluation.score(pair, "balanced_accuracy")["mean"] for pair in ranked[:-1]]
    assert means == sorted(means, reverse=True)
    assert list(evaluation.leaders()) == [("moco", "mlp"), ("random", "linear"), ("supervised", "resnet18")]


def test_groups_of_classes_are_read_as_classes_are(run, grouped_run):
    assert Evaluation.open(run).of_groups is None
    evaluation = Evaluation.open(grouped_run)
    groups = evaluation.of_groups
    assert groups.classes == ["lymphoid", "other"]
    assert set(groups.per_class["class"]) == {"lymphoid", "other"}
    pair = ("moco", "mlp")
    assert groups.class_counts["lymphoid"] == evaluation.class_counts["LYM"]
    assert groups.confusion(pair).sum() == evaluation.confusion(pair).sum()
    right = (groups.of_cells(pair)["label"] == groups.of_cells(pair)["predicted"]).sum()
    assert right == np.trace(groups.confusion(pair)) > np.trace(evaluation.confusion(pair))


def test_names_that_look_like_nothing_or_like_numbers_stay_as_they_are(tmp_path, cellset, make_run):
    run = make_run(tmp_path / "evaluation", cellset, groups={"NA": ["LYM"], "1": "*"})
    per_class = Evaluation.open(run).of_groups.per_class
    assert set(per_class["class"]) == {"NA", "1"}
    assert per_class.drop(columns=["encoder", "head", "class"]).dtypes.map(lambda each: each.kind in "fi").all()


def test_cells_get_one_answer_and_the_confusion_matrix_agrees_with_it(run):
    evaluation = Evaluation.open(run)
    cells = evaluation.of_cells(("moco", "mlp"))
    assert len(cells) == cells["cell_id"].nunique() == 150
    right = (cells["label"] == cells["predicted"]).sum()
    assert right == np.trace(evaluation.confusion(("moco", "mlp")))
