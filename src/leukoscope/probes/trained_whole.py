from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.few import FewLabels
from leukoscope.common.errors import InputError
from leukoscope.encoders.baselines import open_encoder
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import check_fits
from leukoscope.probes.evaluated import Evaluated, Fold
from leukoscope.probes.few import TrainWhole
from leukoscope.probes.finetune_folds import FinetunePlan, cross_validate_finetuned
from leukoscope.probes.from_scratch import SupervisedSettings
from leukoscope.probes.supervised import cross_validate_images


def open_starts(plans: Mapping[str, FinetunePlan], cellset: CellSet) -> dict[str, Encoder]:
    """The encoders that fine-tunings start from.

    Raises:
        InputError: when there is no such encoder, or it does not take these cells.
    """
    starts = {}
    for name, plan in plans.items():
        starts[name] = open_encoder(plan.encoder, cellset, size=plan.size, seed=plan.settings.seed)
        check_fits(starts[name], cellset)
    return starts


def trained_whole(
    cells: Evaluated,
    cellset: CellSet,
    supervised: Mapping[str, SupervisedSettings],
    finetune: Mapping[str, FinetunePlan],
    starts: Mapping[str, Encoder],
    *,
    seed: int,
    device: str,
) -> list[pd.DataFrame]:
    """Predictions of networks that learn from the images of the training cells: from scratch, or from an encoder on."""
    first = next(iter(cells.features.values()))
    names = pd.Series(cells.labels, index=first.ids).reindex(cellset.ids)
    labels, folds = names.where(names.notna(), None).to_numpy(dtype=object), cells.folds
    tables = [
        cross_validate_images(cellset, labels, folds, model=model, settings=each, seed=seed, device=device)
        for model, each in supervised.items()
    ]
    for name, plan in finetune.items():
        start = partial(_always, starts[name])
        tables.append(
            cross_validate_finetuned(cellset, labels, folds, name=name, encoder=start, settings=plan.settings)
        )
    return tables


def on_few_cells(
    few: FewLabels,
    cells: Evaluated,
    cellset: CellSet | None,
    finetune: Mapping[str, FinetunePlan],
    starts: Mapping[str, Encoder],
    *,
    device: str,
) -> TrainWhole:
    """What fine-tunes the networks that ``few`` names on few cells.

    Raises:
        InputError: when it names one that is not fine-tuned on all cells.
    """
    if unknown := [name for name in few.finetune if name not in finetune]:
        known = f"there are {', '.join(finetune)}" if finetune else "none is fine-tuned here"
        raise InputError(f"few.finetune: no network {unknown[0]!r}; {known}")
    chosen = {name: finetune[name] for name in few.finetune}

    def train(count: int, folds: pd.DataFrame) -> list[pd.DataFrame]:
        assert cellset is not None, "fine-tuning has asked for the images"
        return trained_whole(replace(cells, folds=folds), cellset, {}, chosen, starts, seed=0, device=device)

    return train


def _always(encoder: Encoder, fold: Fold) -> Encoder:
    """The same in every fold."""
    return encoder
