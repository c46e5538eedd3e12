from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import check_fits
from leukoscope.probes.encoder_head import start_from
from leukoscope.probes.evaluated import Fold
from leukoscope.probes.presets import DEFAULT, stage_settings
from leukoscope.probes.stages import StageSettings
from leukoscope.probes.start import Start
from leukoscope.probes.supervised import cross_validate_stages
from leukoscope.scores.significance import FINETUNED


@dataclass(frozen=True)
class FinetunePlan:
    """A fine-tuning to compare in folds: the encoder that it starts from, and how.

    ``encoder`` is a bundle, or a baseline such as ``random:resnet18``, which ``size`` is for.
    """

    encoder: str
    size: int | None
    settings: StageSettings

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str, **defaults: Any) -> "FinetunePlan":
        """From ``{encoder, size, preset, ...}``: what else there is, is laid over the preset, by default ``two-step``.

        Args:
            values: as written.
            where: their origin, for messages.
            defaults: of the settings, laid under ``values``.

        Raises:
            InputError: for a key or value that is wrong.
        """
        rest = dict(values)
        encoder, size, preset = rest.pop("encoder", None), rest.pop("size", None), rest.pop("preset", DEFAULT)
        if not isinstance(encoder, str):
            raise InputError(f"{where}: encoder: required, but not given")
        return cls(encoder, size, stage_settings(preset, {**defaults, **rest}, where))


def cross_validate_finetuned(
    cellset: CellSet,
    labels: np.ndarray,
    folds: pd.DataFrame,
    *,
    name: str,
    encoder: Callable[[Fold], Encoder],
    settings: StageSettings,
) -> pd.DataFrame:
    """Fine-tune an encoder in every fold and predict the cells held out.

    Args:
        cellset: the cells, among them all those of the folds.
        labels: the class of each cell ``(N,)``; cells outside the folds may have None.
        folds: ``cell_id, repeat, fold, role``, shared with what is compared.
        name: under which the predictions stand, with head ``finetuned``.
        encoder: where each fold starts.
        settings: of the training.

    Raises:
        InputError: when a cell of the folds is missing or unlabelled, or encoder and cells do not fit.
        CheckFailed: when training diverges.
    """

    def start(n_classes: int, fold: Fold) -> Start:
        own = encoder(fold)
        check_fits(own, cellset)
        return start_from(own, n_classes, dropout=settings.dropout, seed=settings.seed)

    return cross_validate_stages(cellset, labels, folds, start=start, settings=settings, encoder=name, head=FINETUNED)
