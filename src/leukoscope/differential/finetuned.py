import numpy as np

from leukoscope.cells.cellset import CellSet
from leukoscope.differential.calibration import fit_temperature
from leukoscope.differential.classifier import Classifier, ClassifierInfo
from leukoscope.differential.fit import unseen_reliability, unseen_scores
from leukoscope.encoders.embed import origin
from leukoscope.encoders.readout import Readout
from leukoscope.probes.finetuning import FineTuned
from leukoscope.scores.confusion import matrix
from leukoscope.scores.predictions import probabilities_of, truth_of


def classifier_of(tuned: FineTuned, seen: CellSet, *, group: str | None, seed: int) -> Classifier:
    """The fine-tuned head as a classifier on the features of the fine-tuned encoder.

    Its temperature is fitted on the validation cells, by what the network of model selection said of them without
    having learned from them. Its confusion counts the test cells; the row of a class that has none there is of
    validation cells.

    Args:
        tuned: what fine-tuning left.
        seen: the training and validation cells.
        group: the column that held cells together, for the record.
        seed: as ``group``.
    """
    truth, probabilities = {}, {}
    for part, table in tuned.predictions.items():
        truth[part], probabilities[part] = truth_of(table), probabilities_of(table)
    temperature = fit_temperature(probabilities["validation"], truth["validation"])
    counts = {part: matrix(truth[part], probabilities[part].argmax(1), len(tuned.classes)) for part in truth}
    tested = counts["test"].sum(axis=1, keepdims=True) > 0
    confusion = np.where(tested, counts["test"], counts["validation"])
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
        confusion=tuple(map(tuple, confusion.tolist())),
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
