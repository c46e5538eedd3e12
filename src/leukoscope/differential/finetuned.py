import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.differential.answers import Answers, whose_are
from leukoscope.differential.calibration import apply_temperature, fit_temperature
from leukoscope.differential.classifier import Classifier, ClassifierInfo
from leukoscope.differential.fit import unseen_reliability, unseen_scores
from leukoscope.encoders.embed import origin
from leukoscope.encoders.readout import Readout
from leukoscope.probes.finetuning import FineTuned
from leukoscope.scores.confusion import matrix
from leukoscope.scores.predictions import probabilities_of, truth_of


def classifier_of(tuned: FineTuned, seen: CellSet, *, cells: pd.DataFrame, group: str | None, seed: int) -> Classifier:
    """The fine-tuned head as a classifier on the features of the fine-tuned encoder.

    Its temperature is fitted on the validation cells, by what the network of model selection said of them without
    having learned from them. Its confusion counts the test cells; the row of a class that has none there is of
    validation cells.

    Args:
        tuned: what fine-tuning left.
        seen: the training and validation cells.
        cells: the table of all cells.
        group: its column that held cells together; None where none did.
        seed: of fine-tuning and answers.
    """
    truth, probabilities = {}, {}
    for part, table in tuned.predictions.items():
        truth[part], probabilities[part] = truth_of(table), probabilities_of(table)
    temperature = fit_temperature(probabilities["validation"], truth["validation"])
    untested = ~np.isin(truth["validation"], truth["test"])
    unseen = pd.concat([tuned.predictions["test"], tuned.predictions["validation"][untested]], ignore_index=True)
    kinds, calibrated = truth_of(unseen), apply_temperature(probabilities_of(unseen), temperature)
    prevalence = np.bincount(truth["train"], minlength=len(tuned.classes)) / len(truth["train"])
    told = origin(seen, tuned.encoder)
    info = ClassifierInfo(
        classes=tuple(tuned.classes),
        head="linear",
        chosen={f"lr_{number}": rate for number, rate in enumerate(tuned.plan.rates, start=1)},
        feature_dim=tuned.encoder.info.feature_dim,
        readout=Readout(),
        temperature=temperature,
        prevalence=tuple(prevalence.tolist()),
        confusion=tuple(map(tuple, matrix(kinds, calibrated.argmax(1), len(tuned.classes)).tolist())),
        answers=Answers.learn(kinds, calibrated, whose_are(unseen, cells, group), seed=seed),
        cross_validated=unseen_scores(truth["test"], probabilities["test"], temperature),
        reliability=unseen_reliability(truth["test"], probabilities["test"], temperature),
        folds=1,
        group=group,
        seed=seed,
        encoder_fingerprint=told["encoder_fingerprint"],
        timm_name=told["timm_name"],
        channels=tuple(told["channels"]),
        bit_depth=told["bit_depth"],
        field_um=told.get("field_um"),
        pixels_fingerprint=told["pixels_fingerprint"],
    )
    return Classifier(tuned.head, info)
