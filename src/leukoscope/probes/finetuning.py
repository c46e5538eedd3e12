from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from leukoscope.cells.cellset import CellSet
from leukoscope.common.progress import progress
from leukoscope.common.runs import log
from leukoscope.encoders.bundle import Encoder, EncoderInfo
from leukoscope.probes.diary import Diary
from leukoscope.probes.encoder_head import EncoderWithHead, start_from
from leukoscope.probes.linear import LinearHead
from leukoscope.probes.parts import Parts
from leukoscope.probes.stages import StageSettings
from leukoscope.probes.trainer import Plan, Trainer
from leukoscope.probes.tuning import tune
from leukoscope.scores.predictions import predictions
from leukoscope.scores.significance import FINETUNED


@dataclass(frozen=True)
class FineTuned:
    """An encoder and its head after fine-tuning, and what they say of cells.

    ``predictions`` are by part: ``validation`` by the network of model selection, which has not trained on these cells;
    ``train`` and ``test`` by the network returned here, which has trained on training and validation cells.
    """

    encoder: Encoder
    head: LinearHead
    classes: list[str]
    plan: Plan
    predictions: Mapping[str, pd.DataFrame]
    tried: list[dict[str, Any]]
    history: list[dict[str, Any]]


def fine_tune(
    cellset: CellSet, labels: np.ndarray, encoder: Encoder, parts: Parts, settings: StageSettings, *, name: str
) -> FineTuned:
    """Fine-tune an encoder under a linear head; the test cells are used once, to be predicted.

    First the network learns from the training cells alone: learning rates and the ends of stages are chosen by what it
    says of the validation cells. Then it learns anew, from ``encoder`` again, from training and validation cells
    together, by the rates and for the epochs that were found.

    Args:
        cellset: the cells.
        labels: the class of each ``(N,)``, None for cells of no part.
        encoder: where it starts; it is not changed.
        parts: which cells are for what.
        settings: the stages.
        name: under which the predictions stand.

    Raises:
        InputError: when a stage does not fit the encoder or its cells.
        CheckFailed: when training diverges.
    """
    rows = parts.rows
    classes = sorted({str(label) for label in labels[np.concatenate(list(rows.values()))]})
    truth = torch.from_numpy(pd.Index(classes).get_indexer(pd.Index(labels)).astype(np.int64))
    start = start_from(encoder, len(classes), dropout=settings.dropout, seed=settings.seed)
    epochs = sum(stage.epochs for stage in settings.stages.values())
    with progress("finetune", epochs * (len(settings.rates) + 1), unit="epochs") as advance:
        diary = Diary(advance)
        trainer = Trainer(start, cellset, truth, settings, diary.note)
        tuned = tune(trainer, rows["train"], rows["validation"], follow=True)
        log.info("chosen: %s; now on %d training and validation cells together", tuned.plan, len(parts.training))
        diary.fit = "refit"
        network, plan = trainer.fit(parts.training, tuned.plan)
    assert isinstance(network, EncoderWithHead)
    said = {
        "train": (parts.training, trainer.predict(network, parts.training)),
        "validation": (rows["validation"], tuned.probabilities),
        "test": (rows["test"], trainer.predict(network, rows["test"])),
    }
    seen = cellset.select(parts.training)
    return FineTuned(
        encoder=_encoder(network.cpu(), encoder, seen, classes, settings),
        head=network.head,
        classes=classes,
        plan=plan,
        predictions={
            part: predictions(cellset.ids[of], labels[of], p, classes, encoder=name, head=FINETUNED, seed=settings.seed)
            for part, (of, p) in said.items()
        },
        tried=tuned.tried,
        history=diary.rows,
    )


def _encoder(
    network: EncoderWithHead, start: Encoder, seen: CellSet, classes: list[str], settings: StageSettings
) -> Encoder:
    """The encoder of ``network`` as a bundle; where nothing but the head learned, it is ``start`` itself."""
    info = start.info
    if not settings.trains_encoder:
        return start
    began = {"method": info.method, "fingerprint": start.fingerprint, "recipe": info.recipe}
    told = EncoderInfo.of(
        seen,
        network.encoder,
        timm_name=info.timm_name,
        size=info.size,
        method="finetune",
        mean=info.mean,
        std=info.std,
        recipe={**settings.model_dump(mode="json"), "started_from": began},
        pixels_fingerprint="+".join(filter(None, [info.pixels_fingerprint, seen.pixels_fingerprint])),
        learned_classes=tuple(sorted({*classes, *(info.learned_classes or ())})),
        licence=info.licence,
    )
    return Encoder(network.encoder, told)
