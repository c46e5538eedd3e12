import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    recall_score,
    roc_auc_score,
)

from leukoscope.common.errors import InputError
from leukoscope.scores.class_groups import grouped, parse_groups, resolve_groups
from leukoscope.scores.predictions import predictions, probabilities_of, validate
from leukoscope.scores.results import score_predictions

CLASSES = ["EOS", "LYM", "MON", "NEU", "NK"]
GROUPS = {"lymphoid": ["NK", "LYM"], "granulocyte": ["EOS", "NEU"], "other": "*"}
HOME = {"NK": 0, "LYM": 0, "EOS": 1, "NEU": 1, "MON": 2}


def evaluated(strength: float, n: int = 300) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions of one fold; the greater the strength, the surer is every answer of one class."""
    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=n)
    answer = np.where(rng.random(n) < 0.7, truth, rng.integers(5, size=n))
    logits = rng.normal(size=(n, 5)) + strength * np.eye(5)[answer]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = np.array([f"c{i}" for i in range(n)])
    table = predictions(ids, np.array(CLASSES)[truth], p, CLASSES, encoder="e", head="linear")
    role = ["test"] * n + ["train"]
    return table, pd.DataFrame({"cell_id": [*ids, "another"], "repeat": 0, "fold": 0, "role": role})


def test_scores_are_those_of_scikit_learn_on_mapped_labels_where_answers_are_sure() -> None:
    table, folds = evaluated(strength=9.0)
    results = score_predictions(table, folds, groups=GROUPS, n_bootstrap=20)
    answers = np.array(CLASSES)[probabilities_of(table).argmax(axis=1)]
    truth, predicted = (np.array([HOME[name] for name in names]) for names in (table["label"], answers))
    found = results.content["groups"]
    scores = {name: value["mean"] for name, value in found["scores"]["e"]["linear"].items()}
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert scores["f1_macro"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert found["confusion"]["e"]["linear"] == confusion_matrix(truth, predicted).tolist()
    each = results.tables["per_group"]
    assert each["group"].tolist() == ["lymphoid", "granulocyte", "other"]
    assert each["recall"].tolist() == pytest.approx(recall_score(truth, predicted, average=None))
    assert each["f1"].tolist() == pytest.approx(f1_score(truth, predicted, average=None))
    assert (each["f1_low"] < each["f1"]).all()
    assert (each["f1"] < each["f1_high"]).all()


def test_the_predicted_group_has_the_largest_sum_and_not_the_most_probable_class() -> None:
    table, folds = evaluated(strength=0.5)
    sums = probabilities_of(table) @ np.eye(3)[[HOME[name] for name in CLASSES]]
    truth = table["label"].map(HOME).to_numpy()
    found = score_predictions(table, folds, groups=GROUPS, n_bootstrap=0).content["groups"]
    assert found["confusion"]["e"]["linear"] == confusion_matrix(truth, sums.argmax(axis=1)).tolist()
    by_class = np.array([HOME[CLASSES[k]] for k in probabilities_of(table).argmax(axis=1)])
    assert (by_class != sums.argmax(axis=1)).mean() > 0.05
    scores = found["scores"]["e"]["linear"]
    areas = [roc_auc_score(truth == group, sums[:, group]) for group in range(3)]
    assert scores["roc_auc_macro"]["mean"] == pytest.approx(np.mean(areas))


def test_two_classes_of_less_outweigh_one_of_more() -> None:
    p = np.array([[0.3, 0.4, 0.0, 0.3, 0.0]])
    table = predictions(np.array(["c"]), np.array(["LYM"]), p, CLASSES, encoder="e", head="h")
    about = validate(grouped(table, resolve_groups(GROUPS, CLASSES)))
    assert about[["p_lymphoid", "p_granulocyte", "p_other"]].iloc[0].tolist() == pytest.approx([0.4, 0.6, 0.0])
    assert about["label"].tolist() == ["lymphoid"]


def test_groups_of_one_class_each_are_scored_as_the_classes_are() -> None:
    table, folds = evaluated(strength=1.0)
    content = score_predictions(table, folds, groups={name: [name] for name in CLASSES}, n_bootstrap=30).content
    assert content["groups"]["confusion"] == content["confusion"]
    for metric, value in content["scores"]["e"]["linear"].items():
        assert content["groups"]["scores"]["e"]["linear"][metric]["mean"] == pytest.approx(value["mean"]), metric
        assert content["groups"]["scores"]["e"]["linear"][metric]["low"] == pytest.approx(value["low"]), metric


def test_results_json_and_tables_hold_the_groups_beside_the_classes() -> None:
    table, folds = evaluated(strength=2.0)
    plain, both = (score_predictions(table, folds, groups=groups, n_bootstrap=5) for groups in (None, GROUPS))
    content = json.loads(json.dumps(both.content, allow_nan=False))
    assert list(content["groups"]["of"]) == ["lymphoid", "granulocyte", "other"]
    assert content["groups"]["of"]["other"] == ["MON"]
    assert {key: value for key, value in both.content.items() if key != "groups"} == plain.content
    assert set(both.tables) - set(plain.tables) == {"group_scores", "per_group", "group_confusion_e_linear"}


def test_the_command_line_names_groups_in_one_word() -> None:
    assert parse_groups("lymphoid=NK, LYM;other=*") == {"lymphoid": ["NK", "LYM"], "other": ["*"]}
    assert resolve_groups(parse_groups("lymphoid=NK,LYM;other=*"), CLASSES)["other"] == ["EOS", "MON", "NEU"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {"a": ["EOS"], "b": ["LYM"]},
            "class groups: 'MON' is in none of them; add it to one, or a group for the rest",
        ),
        ({"a": ["EOX"], "b": "*"}, "class groups: 'a' names 'EOX', which is no class; did you mean 'EOS'?"),
        ({"a": ["platelet"], "b": "*"}, "which is no class; the task has EOS, LYM, MON, NEU, NK"),
        ({"a": ["EOS", "LYM"], "b": ["LYM"], "c": "*"}, "class groups: 'LYM' is in 'a' and 'b'; a class has one group"),
        ({"a": "*", "b": "*"}, "class groups: 'EOS' is in 'a' and 'b'"),
        ({"a": CLASSES, "b": "*"}, "class groups: 'b' holds no classes"),
        ({"a": "*"}, "class groups: 1 given; name at least two"),
    ],
)
def test_groups_that_do_not_fit_the_classes_are_refused(groups: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        resolve_groups(groups, CLASSES)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lymphoid;other=*", "--class-groups: 'lymphoid' is not GROUP=CLASS,CLASS,..."),
        ("lymphoid=", "--class-groups: 'lymphoid=' is not GROUP=CLASS,CLASS,..."),
        ("a=LYM;a=NK", "--class-groups: 'a' is given twice"),
    ],
)
def test_a_group_misspelt_is_told(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_groups(text)
    assert message in str(error.value)


@pytest.mark.parametrize("k", [5, 7, 20])
def test_groups_with_as_many_votes_are_equals_however_their_classes_share_them(k: int) -> None:
    rng = np.random.default_rng(k)
    truth = rng.integers(0, 5, 400)
    votes = np.stack([rng.multinomial(k, 0.1 + 0.5 * row) for row in np.eye(5)[truth]])
    ids = np.array([f"c{i}" for i in range(400)])
    table = predictions(ids, np.array(CLASSES)[truth], votes / k, CLASSES, encoder="e", head="knn")
    folds = pd.DataFrame({"cell_id": [*ids, "another"], "repeat": 0, "fold": 0, "role": ["test"] * 400 + ["train"]})
    found = score_predictions(table, folds, groups=GROUPS, n_bootstrap=0).content["groups"]["scores"]["e"]["knn"]
    of = np.eye(3)[[HOME[name] for name in CLASSES]]
    areas = [roc_auc_score(of[truth, group], (votes @ of)[:, group]) for group in range(3)]
    assert found["roc_auc_macro"]["mean"] == pytest.approx(np.mean(areas), abs=1e-9)
