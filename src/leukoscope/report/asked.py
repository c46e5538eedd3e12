"""What ``explain`` was asked for, checked before the long work starts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.labels import Labels, labels_of
from leukoscope.common.errors import InputError
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.classify import refuse_misfit
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import check_fits
from leukoscope.explain.map2d import MAPS
from leukoscope.report.drawing import slug

KINDS = ("gradcam", "attention", "pca", "map")


def labelled(cellset: CellSet, column: str, overlay: Labels | None, *, needed: bool = True) -> CellSet:
    """The cells with their class as the column ``label``; the default column may be missing, and one not ``needed``.

    Raises:
        InputError: as :func:`~leukoscope.cells.labels.labels_of`.
    """
    lacks = overlay is None and column not in cellset.cells.columns
    if lacks and (column == "label" or not needed):
        labels = np.full(len(cellset), None, dtype=object)
    elif overlay is not None and not needed:
        labels = overlay.of(cellset.ids)
    else:
        labels = labels_of(cellset, column=column, overlay=overlay)
    return replace(cellset, cells=cellset.cells.assign(label=labels))


def refuse_misfits(
    cellset: CellSet,
    encoders: Mapping[str, Encoder],
    what: Sequence[str] | None,
    method: str,
    classifier: Classifier | None,
    new: CellSet | None,
) -> None:
    """Refuse what cannot come to anything before the long work starts.

    Raises:
        InputError: for an unknown kind or method, encoders that share a name, or cells or a classifier that do not fit.
    """
    for kind in what or ():
        if kind not in KINDS:
            raise InputError(f"--what {kind}: no such picture; choose of {', '.join(KINDS)}")
    if method not in MAPS:
        raise InputError(f"--method {method}: no such map; choose one of {', '.join(MAPS)}")
    if not encoders:
        raise InputError("explain: give at least one encoder")
    if len({slug(name) for name in encoders}) < len(encoders):
        raise InputError(f"encoders {', '.join(encoders)}: two have one name; name them with NAME=ENCODER")
    for encoder in encoders.values():
        for cells in (cellset, *([] if new is None else [new])):
            check_fits(encoder, cells)
    if classifier is not None:
        fitted_on = [e for e in encoders.values() if e.fingerprint == classifier.info.encoder_fingerprint]
        refuse_misfit(cellset, (fitted_on or list(encoders.values()))[0], classifier)


def shown_patient(new: CellSet | None, patient: str | None, seed: int) -> str | None:
    """The patient of the new cells to be shown; None where there are no new cells, or none of several is known.

    Raises:
        InputError: when there is no such patient.
    """
    if new is None:
        if patient is not None:
            raise InputError(f"--patient {patient}: whose cells are to be placed? give their CellSet with --new")
        return None
    if patient is None and "patient" not in new.cells.columns:
        return None
    known = sorted(new.column("patient").dropna().astype(str).unique())
    if patient is None:
        return str(np.random.default_rng(seed).choice(known)) if len(known) > 1 else None
    if patient not in known:
        raise InputError(f"--patient {patient}: not in {new.path}; it has {', '.join(known[:10])}")
    return patient
