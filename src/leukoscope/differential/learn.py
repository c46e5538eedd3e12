from dataclasses import replace

import numpy as np
import torch

from leukoscope.common.errors import InputError
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.novelty import Reference
from leukoscope.probes.head import Data, Job
from leukoscope.probes.nested import TrainingSet
from leukoscope.probes.registry import head_of

_SETTING = {"C": "C", "learning_rate": "learning_rates"}
"""Under which setting of a head each chosen hyper-parameter is tried."""


def learn(classifier: Classifier, x: np.ndarray, y: np.ndarray) -> Classifier:
    """The classifier, its head fitted anew on the cells that it learned from and these.

    Hyper-parameters, temperature and what was cross-validated stay as they were found when it was fitted.

    Args:
        classifier: one that keeps what it learned from.
        x: features of more cells ``(n, D)`` float32.
        y: their class indices ``(n,)`` int64.

    Raises:
        InputError: when it was fitted without reference cells, as a fine-tuned one is.
    """
    reference = classifier.reference
    if reference is None:
        raise InputError("the classifier was fitted without reference cells and cannot learn; fit it anew")
    info = classifier.info
    known = Reference(
        np.concatenate([reference.x, np.asarray(x, np.float32)]), np.concatenate([reference.y, np.asarray(y, np.int64)])
    )
    data = Data(torch.from_numpy(known.x), torch.from_numpy(known.y), len(info.classes))
    probe = head_of(info.head, {_SETTING[name]: (value,) for name, value in info.chosen.items()})
    fitted = probe.fit(data, [Job(TrainingSet(np.arange(len(known.x)), ()), info.seed)])[0]
    return replace(classifier, head=fitted.head, reference=known)
