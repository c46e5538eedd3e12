import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.protocol import GREY, HEAVY, RGB, Item, Picture, Plan, RawCell, Rejection
from leukoscope.common.errors import InputError

_SPLITS = ("train", "val", "test")
_BYTES_A_BLOCK = 4_000_000


class MedMnist:
    """``.npz`` in the layout of MedMNIST: ``train_images``, ``train_labels``, and so for ``val`` and ``test``.

    Images are ``(n, H, W)`` or ``(n, H, W, 3)``, labels ``(n,)``, ``(n, 1)`` or, with several labels an image,
    ``(n, k)``, which become the columns ``label_1`` to ``label_k``. Images are streamed out of the archive.
    """

    uses: frozenset[str] = frozenset()

    def claims(self, source: Path, settings: PackSettings) -> bool:
        """A file called ``.npz``."""
        return source.suffix.lower() == ".npz"

    def plan(self, source: Path, settings: PackSettings) -> Plan:
        """Items of a few images each, split by split."""
        try:
            with zipfile.ZipFile(source) as archive:
                splits = [_Split.of(archive, source, name) for name in _SPLITS if _member(archive, f"{name}_images")]
        except InputError:
            raise
        # Broken archives make zipfile and NumPy raise a dozen kinds of errors, down to those of Python's tokenizer.
        except Exception as error:
            raise InputError(f"{source}: not a readable .npz archive ({_first_line(error)})") from None
        if not splits:
            raise InputError(f"{source}: no train_images, val_images or test_images in it; is it in MedMNIST's layout?")
        for split in splits:
            split.check(source, settings)

        def items() -> Iterator[Item | Rejection]:
            for split in splits:
                yield from split.items(source)

        return Plan(items(), sum(split.blocks for split in splits), unit="blocks")


@dataclass(frozen=True)
class _Split:
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    labels: np.ndarray | None

    @classmethod
    def of(cls, archive: zipfile.ZipFile, source: Path, name: str) -> "_Split":
        with archive.open(f"{name}_images.npy") as file:
            shape, dtype = _header(file)
        labels = None
        if _member(archive, f"{name}_labels"):
            with archive.open(f"{name}_labels.npy") as file:
                labels = np.lib.format.read_array(file, allow_pickle=False)
            if labels.ndim not in (1, 2) or len(labels) != shape[0]:
                raise InputError(f"{source}: {name}_labels {labels.shape} do not fit {name}_images {shape}")
        return cls(name, shape, dtype, labels)

    def check(self, source: Path, settings: PackSettings) -> None:
        """Raise InputError when the array holds no images that are read."""
        where = f"{source}: {self.name}_images"
        if not (len(self.shape) == 3 or (len(self.shape) == 4 and self.shape[3] in (1, 3))):
            raise InputError(f"{where}: shape {self.shape} is not (n, H, W) or (n, H, W, 3)")
        if self.dtype not in (np.uint8, np.uint16):
            raise InputError(f"{where}: {self.dtype} pixels; only unsigned 8 and 16 bit are read")
        if self.shape[1] * self.shape[2] > settings.cell_limit:
            raise InputError(f"{where}: {self.shape[1]}x{self.shape[2]} pixels; raise --max-pixels to take it")

    @property
    def rows(self) -> int:
        """Images a block."""
        return max(1, _BYTES_A_BLOCK // max(1, int(np.prod(self.shape[1:])) * self.dtype.itemsize))

    @property
    def blocks(self) -> int:
        return -(-self.shape[0] // self.rows)

    def items(self, source: Path) -> Iterator[Item | Rejection]:
        where = f"{source.name}/{self.name}_images"
        start = 0
        try:
            with zipfile.ZipFile(source) as archive, archive.open(f"{self.name}_images.npy") as file:
                _header(file)
                while start < self.shape[0]:
                    block = _read_block(file, (min(self.rows, self.shape[0] - start), *self.shape[1:]), self.dtype)
                    yield self._item(where, block, start)
                    start += len(block)
        # A compressed stream cannot be read beyond its first fault.
        except Exception as error:
            yield Rejection(where, start, f"broken archive from here on ({_first_line(error)})")

    def _item(self, where: str, block: np.ndarray, start: int) -> Item:
        def read() -> Iterator[RawCell]:
            for index, image in enumerate(block, start):
                planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
                picture = Picture(np.ascontiguousarray(planes), RGB if len(planes) == 3 else GREY)
                yield RawCell(index, picture, _label_columns(self.labels, index))

        return Item(where, read, {"split": self.name}, HEAVY)


def _label_columns(labels: np.ndarray | None, index: int) -> dict[str, Any]:
    if labels is None:
        return {}
    row = np.atleast_1d(labels[index])
    if len(row) == 1:
        return {"label": str(row[0])}
    return {f"label_{number}": value.item() for number, value in enumerate(row, 1)}


def _member(archive: zipfile.ZipFile, name: str) -> bool:
    return f"{name}.npy" in archive.namelist()


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if fortran or dtype.hasobject:
        raise ValueError("arrays in Fortran order or of Python objects are not read")
    return shape, dtype


def _read_block(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    wanted = int(np.prod(shape)) * dtype.itemsize
    data = file.read(wanted)
    if len(data) < wanted:
        raise EOFError("the file ends early")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
