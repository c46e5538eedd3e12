from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.writer import table_fingerprint
from leukoscope.common.errors import InputError
from leukoscope.common.files import refuse_file
from leukoscope.common.prefetch import prefetch
from leukoscope.common.progress import progress
from leukoscope.common.runs import log
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.device import pick_device, pick_dtype
from leukoscope.encoders.features import FLIPS, Features
from leukoscope.encoders.folding import fold_norms
from leukoscope.encoders.mapfile import MapFile, StoredMaps, maps_path
from leukoscope.encoders.readout import Readout
from leukoscope.encoders.remedies import Recolour


def embed(
    cellset: CellSet,
    encoder: Encoder,
    out: Path | None = None,
    *,
    batch: int = 256,
    device: str = "auto",
    precision: str = "auto",
    readout: Readout = Readout(),
    maps: bool = False,
    flipped: bool = False,
    recolour: Recolour | None = None,
    overwrite: bool = False,
) -> Features:
    """Compute the features of every cell, in the order of the CellSet; memory holds the features and two batches.

    Pixels are scaled by the CellSet's own intensity rule, then normalised by the encoder's mean and std.

    Args:
        cellset: the cells; a selection embeds the selected.
        encoder: the frozen encoder.
        out: the ``.h5ad`` to write, whole or not at all; None writes nothing.
        batch: cells a step; it does not change the features.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16``.
        readout: how features are read from the network; see :class:`~leukoscope.encoders.readout.Readout`.
        maps: also store the unpooled maps beside ``out`` as ``<stem>.maps.npy``, float16 ``(N, C', h, w)``.
        flipped: also compute the features of every cell flipped, by which models of bags learn; at four times the cost.
        recolour: changes the cells' colours, to those of cells that are known.
        overwrite: replace what ``out`` holds.

    Raises:
        InputError: when encoder and cells do not fit, ``out`` exists, or the device is missing.
    """
    check_fits(encoder, cellset)
    if out is not None:
        refuse_file(out, overwrite=overwrite)
        if maps:
            out.unlink(missing_ok=True)  # maps take their name first: what is old must not stand beside them
    if maps and out is None:
        raise ValueError("maps are stored beside out, which is None")
    place = pick_device(device)
    pick_dtype(place, precision)
    folded = Encoder(fold_norms(encoder.to(place).backbone), encoder.info)
    x = np.empty((0, encoder.info.feature_dim), np.float32)
    turned: np.ndarray | None = None
    with ExitStack() as stack:
        advance = stack.enter_context(progress("embed", len(cellset)))
        stored = stack.enter_context(MapFile(maps_path(out), len(cellset))) if maps and out is not None else None
        for start, pixels in prefetch(_batches(cellset, batch)):
            chosen = slice(start, start + len(pixels))
            inputs = folded.prepare(torch.from_numpy(pixels).to(place), cellset.info.intensity, recolour)
            encoded = folded.encode(inputs, precision=precision, readout=readout).cpu().numpy()
            if start == 0:
                x = np.empty((len(cellset), encoded.shape[1]), np.float32)
            x[chosen] = encoded
            for number, axes in enumerate(FLIPS if flipped else ()):
                if turned is None:
                    turned = np.empty((len(FLIPS), *x.shape), np.float32)
                view = folded.encode(inputs.flip(axes), precision=precision, readout=readout)
                turned[number, chosen] = view.cpu().numpy()
            if stored is not None:
                stored.write(chosen, folded.maps(inputs, precision=precision))
            advance(len(pixels))
    told = origin(cellset, encoder, readout) | ({"recoloured": True} if recolour is not None else {})
    stored_maps = StoredMaps.beside(out, cells=len(cellset)) if maps and out is not None else None
    features = Features(x, cellset.cells.reset_index(drop=True), told, turned, stored_maps)
    if out is not None:
        if not maps:
            maps_path(out).unlink(missing_ok=True)  # of the features that these replace
        features.write(out)
    return features


def check_fits(encoder: Encoder, cellset: CellSet) -> None:
    """Refuse cells that the encoder cannot take, and warn of cells unlike those it learned from.

    Raises:
        InputError: when the number of channels differs.
    """
    info, cells = encoder.info, cellset.info
    if info.channels != cellset.channels:
        raise InputError(
            f"{cellset.path}: has {cellset.channels} channels ({', '.join(cells.channels)}), the encoder takes "
            f"{info.channels} ({', '.join(info.channel_names)}); pack the same channels, or use an encoder for these"
        )
    if info.channel_names != cells.channels:
        log.warning("%s: channels are called %s, the encoder's %s", cellset.path, cells.channels, info.channel_names)
    if info.intensity.rule != cells.intensity.rule:
        log.warning(
            "%s: intensity rule %s, the encoder learned with %s: cells may look brighter or darker to it",
            *(cellset.path, cells.intensity.rule, info.intensity.rule),
        )
    if cells.shows_another_field(info.field_um):
        log.warning(
            "%s: images show %.3g um, the encoder learned from %.3g um: cells look another size to it",
            *(cellset.path, cells.field_um, info.field_um),
        )


def origin(cellset: CellSet, encoder: Encoder, readout: Readout = Readout()) -> dict[str, Any]:
    """What ``uns`` tells of features: fingerprints of cells and encoder, and what the cells look like."""
    info, cells = encoder.info, cellset.info
    whole = cellset.rows is None
    known = {
        "pixels_fingerprint": cellset.pixels_fingerprint,
        "table_fingerprint": cells.table_fingerprint if whole else table_fingerprint(cellset.cells),
        "encoder_fingerprint": encoder.fingerprint,
        "method": info.method,
        "pretrained_on": info.pixels_fingerprint,
        "learned_classes": None if info.learned_classes is None else list(info.learned_classes),
        "timm_name": info.timm_name,
        "truncate_after": info.truncate_after,
        "size": info.size,
        **readout.model_dump(),
        "channels": list(cells.channels),
        "bit_depth": cells.bit_depth,
        "intensity_rule": cells.intensity.rule,
        "field_um": cells.field_um,
    }
    return {key: value for key, value in known.items() if value is not None}


def _batches(cellset: CellSet, batch: int) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(cellset), batch):
        yield start, cellset.read(slice(start, start + batch))
