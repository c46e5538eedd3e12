import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import pandas as pd
from PIL import Image

from leukoscope.cells.cellset import TABLE_COLUMNS, CellSetInfo, Origin
from leukoscope.cells.intensity import Intensity
from leukoscope.common.files import write_json


def cell_id(pixels: np.ndarray, source: str, index: int = 0) -> str:
    """``<content hash>:<path relative to the source>#<index within the file>`` of one cell ``(C, H, W)``."""
    digest = hashlib.blake2b(repr((pixels.shape, pixels.dtype.str)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return f"{digest.hexdigest()}:{source}#{index}"


class CellSetWriter:
    """Streams cells into a folder with flat memory: pixels go to disk, a histogram is kept for the statistics.

    Write into a folder from :func:`leukoscope.common.files.whole_folder`, so that a killed run leaves nothing whole.
    """

    def __init__(self, folder: Path, *, channels: Sequence[str], height: int, width: int, dtype: np.dtype[Any]) -> None:
        self.folder = folder
        self.channels = tuple(channels)
        self.shape = (len(self.channels), height, width)
        self.dtype = np.dtype(dtype)
        self.count = 0
        self._rows: list[Mapping[str, Any]] = []
        self._pixels = hashlib.sha256(repr((self.shape, self.dtype.str)).encode())
        # Exact counts of every pixel value: statistics and percentiles come from these, without drift.
        self._histogram = np.zeros((len(self.channels), np.iinfo(self.dtype).max + 1), np.int64)
        self._file: BinaryIO = (folder / "images.npy").open("wb")
        self._write_header()

    def add(self, pixels: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append cells ``(n, C, H, W)`` of the writer's dtype and one mapping of table columns for each of them."""
        if pixels.shape[1:] != self.shape or pixels.dtype != self.dtype or len(rows) != len(pixels):
            raise ValueError(
                f"expected {self.dtype} cells {self.shape} with a row each, got {pixels.dtype} {pixels.shape}"
            )
        data = np.ascontiguousarray(pixels).data
        self._file.write(data)
        self._pixels.update(data)
        for channel in range(len(self.channels)):
            self._histogram[channel] += _count_values(pixels[:, channel])
        self._rows.extend(rows)
        self.count += len(pixels)

    def widened(self, channels: Sequence[str]) -> "CellSetWriter":
        """Close this writer of one channel; return one that holds its cells with that channel repeated.

        The pixels are rewritten on disk a block at a time.
        """
        self._write_header_in_place()
        narrow = self.folder / "narrow.npy"
        (self.folder / "images.npy").rename(narrow)
        wide = CellSetWriter(
            self.folder, channels=channels, height=self.shape[1], width=self.shape[2], dtype=self.dtype
        )
        images = np.load(narrow, mmap_mode="r")
        for start in range(0, self.count, 256):
            block = np.repeat(images[start : start + 256], len(channels), axis=1)
            wide.add(block, self._rows[start : start + 256])
        narrow.unlink()
        return wide

    def finish(
        self,
        *,
        packing: Mapping[str, Any],
        bit_depth: int | None = None,
        percentiles: tuple[float, float] | None = None,
        intensity: Intensity | None = None,
        pixel_size_um: float | None = None,
        origin: Origin | None = None,
    ) -> CellSetInfo:
        """Write the table and ``cellset.json``.

        ``bit_depth`` is what the camera used (12 bits in a 16-bit file); when None it is the fewest of 8, 10, 12, 14 or
        16 bits that hold the brightest pixel. ``percentiles`` asks for the intensity rule ``percentile`` over the set,
        ``intensity`` gives the rule itself: that of the set which these cells come from.
        """
        self._write_header_in_place()
        table = self._table()
        table.to_parquet(self.folder / "cells.parquet", index=False)
        bits = bit_depth or self._bits_used()
        if intensity is None and percentiles is not None:
            intensity = self._percentile(*percentiles)
        intensity = intensity or Intensity.of_bit_depth(bits, len(self.channels))
        mean, std = self._statistics(intensity)
        info = CellSetInfo(
            count=self.count,
            channels=self.channels,
            height=self.shape[1],
            width=self.shape[2],
            dtype=self.dtype.name,
            bit_depth=bits,
            intensity=intensity,
            pixel_size_um=pixel_size_um,
            origin=origin,
            packing=dict(packing),
            mean=mean,
            std=std,
            pixels_fingerprint=self._pixels.hexdigest(),
            table_fingerprint=table_fingerprint(table),
        )
        write_json(self.folder / "cellset.json", info.model_dump(mode="json"))
        return info

    @classmethod
    def like(cls, folder: Path, info: CellSetInfo) -> Self:
        """A writer of cells of the same channels, size and dtype as those of another set."""
        return cls(folder, channels=info.channels, height=info.height, width=info.width, dtype=np.dtype(info.dtype))

    def finish_like(self, info: CellSetInfo, made: Mapping[str, Any]) -> CellSetInfo:
        """Finish a set that was made of another's cells: on its scales, with how it was ``made`` beside its packing."""
        return self.finish(
            packing={**info.packing, **made},
            bit_depth=info.bit_depth,
            intensity=info.intensity,
            pixel_size_um=info.pixel_size_um,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _write_header_in_place(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        """NumPy pads the header so that the count along the first axis can grow in place."""
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.count, *self.shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)

    def _table(self) -> pd.DataFrame:
        table = pd.DataFrame(self._rows, columns=None if self._rows else ["cell_id", "source"])
        known = [name for name in TABLE_COLUMNS if name in table.columns and not table[name].isna().all()]
        return table[known + [name for name in table.columns if name not in TABLE_COLUMNS]]

    def _bits_used(self) -> int:
        brightest = int(np.flatnonzero(self._histogram.any(axis=0)).max(initial=0))
        return next(bits for bits in (8, 10, 12, 14, 16) if brightest < 2**bits)

    def _percentile(self, low: float, high: float) -> Intensity:
        share = np.cumsum(self._histogram, axis=1) / self._histogram.sum(axis=1, keepdims=True)
        lows = [float(np.searchsorted(row, low / 100)) for row in share]
        highs = [float(np.searchsorted(row, high / 100)) for row in share]
        return Intensity(
            rule="percentile",
            low=tuple(lows),
            high=tuple(max(top, bottom + 1) for bottom, top in zip(lows, highs, strict=True)),
        )

    def _statistics(self, intensity: Intensity) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the scaled intensities, from the exact histogram of pixel values."""
        values = np.arange(self._histogram.shape[1], dtype=np.float64)
        means, stds = [], []
        for row, low, high in zip(self._histogram, intensity.low, intensity.high, strict=True):
            scaled = np.clip((values - low) / (high - low), 0, 1)
            mean = float(np.average(scaled, weights=row)) if row.any() else 0.0
            spread = float(np.average((scaled - mean) ** 2, weights=row)) if row.any() else 0.0
            means.append(mean)
            stds.append(float(np.sqrt(spread)))
        return tuple(means), tuple(stds)


def _count_values(pixels: np.ndarray) -> np.ndarray:
    """How often each value of uint8 or uint16 pixels ``(n, H, W)`` occurs."""
    if pixels.dtype == np.uint8:
        # Four times as fast as bincount, which widens every pixel to 64 bit first.
        return np.asarray(Image.fromarray(pixels.reshape(-1, pixels.shape[-1])).histogram())
    return np.bincount(pixels.ravel(), minlength=np.iinfo(pixels.dtype).max + 1)


def table_fingerprint(table: pd.DataFrame) -> str:
    """A fingerprint of the table's content, apart from that of the pixels."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()
