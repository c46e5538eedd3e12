import numpy as np
import pandas as pd

from leukoscope.scores.predictions import HEAD, blocks_of, classes_of, probabilities_of, truth_of


def confusion(table: pd.DataFrame) -> dict[str, dict[str, list[list[int]]]]:
    """Confusion matrices by encoder and head: counts of test cells, rows true and columns predicted classes.

    A cell counts once for every seed and repeat that tested it.
    """
    matrices: dict[str, dict[str, list[list[int]]]] = {}
    for (encoder, head), rows in blocks_of(table, HEAD):
        counts = matrix(truth_of(rows), probabilities_of(rows).argmax(axis=1), len(classes_of(table)))
        matrices.setdefault(str(encoder), {})[str(head)] = counts.tolist()
    return matrices


def matrix(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts ``(K, K)`` int64 of true and predicted class indices ``(n,)``."""
    counts: np.ndarray = np.bincount(truth * n_classes + predicted, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes)
