import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from leukoscope.scores.confusion import confusion
from leukoscope.scores.predictions import predictions


def test_confusion_is_that_of_scikit_learn_over_all_folds() -> None:
    generator = np.random.default_rng(0)
    classes, truth = ["a", "b", "c"], generator.integers(2, size=90)
    p = generator.dirichlet(np.ones(3), 90)
    labels, ids = np.array(classes)[truth], np.arange(90).astype(str)
    folds = [
        predictions(ids[m], labels[m], p[m], classes, encoder="e", head="knn", fold=f)
        for f, m in enumerate(np.arange(90) % 3 == np.arange(3)[:, None])
    ]
    expected = confusion_matrix(truth, p.astype(np.float32).argmax(axis=1), labels=[0, 1, 2])
    assert confusion(pd.concat(folds, ignore_index=True)) == {"e": {"knn": expected.tolist()}}
