import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.frames import IMAGE_SUFFIXES
from leukoscope.cells.readers.protocol import GREY, HEAVY, Item, Picture, Plan, RawCell, Rejection
from leukoscope.cells.readers.walk import find_files, path_columns
from leukoscope.common.errors import InputError

RTDC_SUFFIXES = frozenset({".rtdc", ".hdf5", ".h5"})
_EVENTS_A_BLOCK = 128


class RtDc:
    """Real-time deformability cytometry: HDF5 with the images ``events/image`` ``(n, H, W)``.

    A file, or a folder of files whose sub-folders are classes. Scalar features of the events, such as ``area_um``,
    become columns where ``settings.columns`` names them.
    """

    uses = frozenset({"from_path", "columns"})

    def claims(self, source: Path, settings: PackSettings) -> bool:
        """A file called ``.rtdc`` (or HDF5), or a folder that holds some."""
        if source.is_dir():
            return _holds_rtdc(source)
        return source.suffix.lower() in RTDC_SUFFIXES

    def plan(self, source: Path, settings: PackSettings) -> Plan:
        """Items of a few events each, file by file; the pixel size is that of the first file that tells it."""
        _, found = find_files(source, RTDC_SUFFIXES, settings, what=".rtdc files")
        total = 0
        pixel_size = None
        for _, path in found.files:
            count, size = _survey(path)
            total += -(-count // _EVENTS_A_BLOCK)
            pixel_size = pixel_size or size
        if source.is_file() and not total:
            raise InputError(f"{source}: no images in events/image; is it an RT-DC file with images?")

        def items() -> Iterator[Item | Rejection]:
            yield from found.refused
            for name, path in found.files:
                yield from _file_items(path, name, settings)

        return Plan(items(), total, unit="blocks", ignored=found.ignored, pixel_size_um=pixel_size)


def _holds_rtdc(folder: Path) -> bool:
    """Whether the first folder that holds anything known holds .rtdc; so a million images are not listed twice."""
    for _, _, names in os.walk(folder):
        suffixes = {Path(name).suffix.lower() for name in names if not name.startswith(".")}
        if suffixes & (IMAGE_SUFFIXES | {".rtdc"}):
            return ".rtdc" in suffixes
    return False


def _survey(path: Path) -> tuple[int, float | None]:
    """The number of events and the pixel size in micrometres; a broken file counts nothing and is rejected later."""
    try:
        with h5py.File(path) as file:
            size = float(file.attrs.get("imaging:pixel size", 0)) or None
            return len(file["events/image"]), size
    except Exception:  # told when the file is read
        return 0, None


def _file_items(path: Path, source: str, settings: PackSettings) -> Iterator[Item | Rejection]:
    start = 0
    try:
        with h5py.File(path) as file:
            images = file["events/image"]
            if fault := _fault(images, settings):
                yield Rejection(source, None, fault)
                return
            features = _features(file["events"], settings, len(images))
            # HDF5 lets one thread in at a time, so blocks are read here and only prepared by the workers.
            for start in range(0, len(images), _EVENTS_A_BLOCK):
                block = images[start : start + _EVENTS_A_BLOCK]
                rows = {name: values[start : start + len(block)] for name, values in features.items()}
                yield _item(source, block, start, rows, path_columns(source, settings))
    except KeyError:
        yield Rejection(source, None, "no images in events/image")
    except Exception as error:  # whatever HDF5 makes of broken bytes
        filtered = "filter" in str(error)
        reason = "compressed by a filter that is missing here" if filtered else f"broken file ({_plain(error)})"
        yield Rejection(source, start or None, reason)


def _fault(images: Any, settings: PackSettings) -> str | None:
    if not isinstance(images, h5py.Dataset) or images.ndim != 3:
        return "events/image is not an array (n, H, W)"
    if images.shape[1] * images.shape[2] > settings.cell_limit:
        return f"{images.shape[2]}x{images.shape[1]} pixels are over the limit; raise --max-pixels to take it"
    return None


def _features(events: Any, settings: PackSettings, count: int) -> dict[str, np.ndarray]:
    found = {}
    for old, new in settings.renames.items():
        if old not in events or events[old].shape != (count,):
            raise ValueError(f"no feature {old} for every event")
        found[new] = events[old][:]
    return found


def _item(
    source: str, block: np.ndarray, start: int, rows: Mapping[str, np.ndarray], columns: Mapping[str, Any]
) -> Item:
    def read() -> Iterator[RawCell]:
        for offset, image in enumerate(block):
            extra = {name: values[offset].item() for name, values in rows.items()}
            yield RawCell(start + offset, Picture(image[None], GREY), extra)

    return Item(source, read, columns, HEAVY)


def _plain(error: Exception) -> str:
    # HDF5 tells the address of its error stack's objects in brackets, which differs from run to run.
    return str(error).partition(" (")[0] or type(error).__name__
