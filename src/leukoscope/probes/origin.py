from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet, contents_of
from leukoscope.common.runs import log
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import origin
from leukoscope.encoders.features import Features

_TOLD = (
    "method",
    "timm_name",
    "size",
    "stages",
    "flips",
    "encoder_fingerprint",
    "pixels_fingerprint",
    "table_fingerprint",
    "pretrained_on",
)

_OF_ALL_FOLDS = ("method", "timm_name", "size", "stages", "flips")

# Weights that have seen no cells of ours: drawn by chance, or learned from photographs.
_WITHOUT_CELLS = ("random", "imagenet")


def describe_encoders(
    features: Mapping[str, Features],
    pretrain: Sequence[CellSet] = (),
    *,
    taught: Mapping[str, Mapping[tuple[int, int], Features]] | None = None,
) -> dict[str, Any]:
    """Where each encoder comes from, and whether evaluated cells were seen in its pre-training.

    Args:
        features: of encoders that are the same in all folds, by name.
        pretrain: the CellSets that they were pre-trained on.
        taught: of encoders that were pre-trained inside each training fold, by name and fold.

    Returns:
        ``encoders``: by name what the features' ``uns`` tells; ``seen_in_pretraining``: ``none``, ``all``,
        ``unknown``, ``training folds`` or a number of cells; and ``with_labels``. ``notes``: what a reader should
        distrust, in sentences.
    """
    # All features are of the same cells, and the trials of a sweep saw the same ones: each overlap is counted once.
    seen_by: dict[tuple[str | None, ...], str | int] = {}
    encoders, notes = {}, []
    for name, each in features.items():
        told = {key: _plain(each.uns[key]) for key in _TOLD if key in each.uns}
        began = tuple(each.uns.get(key) for key in ("method", "pretrained_on", "pixels_fingerprint"))
        if began not in seen_by:
            seen_by[began] = _seen(each, pretrain)
        seen = seen_by[began]
        with_labels = "learned_classes" in each.uns
        encoders[name] = {**told, "seen_in_pretraining": seen, "with_labels": with_labels}
        if seen == "unknown":
            notes.append(f"{name}: it is not known which cells it was pre-trained on, so overlap was not checked.")
        elif seen != "none":
            how = "with their labels" if with_labels else "without labels"
            notes.append(f"{name}: {seen} of the evaluated cells were seen, {how}, in its pre-training.")
    for name, by_fold in (taught or {}).items():
        first = next(iter(by_fold.values()))
        told = {key: _plain(first.uns[key]) for key in _OF_ALL_FOLDS if key in first.uns}
        with_labels = "learned_classes" in first.uns
        encoders[name] = {**told, "seen_in_pretraining": "training folds", "with_labels": with_labels}
    for note in notes:
        log.warning(note)
    return {"encoders": encoders, "notes": notes}


def told_of(cellset: CellSet, encoder: Encoder) -> Features:
    """What features of these cells would tell of where they come from, without the features."""
    return Features(np.empty((len(cellset), 0), np.float32), cellset.cells, origin(cellset, encoder))


def _shared_cells(cells: pd.DataFrame, pretrain: Sequence[CellSet]) -> int:
    """How many of ``cells`` have pixels that occur, exactly, in a pre-training set."""
    seen = {content for cellset in pretrain for content in contents_of(cellset.cells)}
    return sum(content in seen for content in contents_of(cells))


def _seen(features: Features, pretrain: Sequence[CellSet]) -> str | int:
    if features.uns.get("method") in _WITHOUT_CELLS:
        return "none"
    trained_on = features.uns.get("pretrained_on")
    names = [] if trained_on is None else trained_on.split("+")
    if features.uns.get("pixels_fingerprint") in names:
        return "all"
    if names:
        # Of the sets given, those of this encoder; others are other encoders'.
        sets = {cellset.pixels_fingerprint: cellset for cellset in pretrain}
        pretrain = [sets[name] for name in names] if sets.keys() >= set(names) else []
    return (_shared_cells(features.cells, pretrain) or "none") if pretrain else "unknown"


def _plain(value: Any) -> Any:
    """A value for JSON: what h5py reads back may be a NumPy scalar."""
    return value.item() if hasattr(value, "item") else value
