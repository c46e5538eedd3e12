import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from leukoscope.common.errors import InputError


class Mark(NamedTuple):
    """By what a folder of one kind is known: a file in it, and how that file begins."""

    file: str
    begins: str = ""

    def on(self, folder: Path) -> bool:
        """Whether ``folder`` is of this kind."""
        path = folder / self.file
        return path.is_file() and path.read_bytes().startswith(self.begins.encode())


@contextmanager
def whole_folder(path: Path, mark: Mark, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a folder beside ``path`` to write into; it takes the name ``path`` only when the block ends well.

    What a killed run left beside ``path`` is removed by the next one.

    Raises:
        InputError: as :func:`refuse_folder`.
    """
    refuse_folder(path, mark, overwrite=overwrite)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if path.exists():
        shutil.rmtree(path)
    partial.rename(path)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it replaces ``path`` in one step when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def refuse_folder(path: Path, mark: Mark, *, overwrite: bool = False) -> None:
    """Refuse to write a folder ``path`` over what is there; only one with the same ``mark`` may be overwritten.

    Raises:
        InputError: when ``path`` is a file, or holds something that may not be replaced.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file, and a folder is to be written; choose another name")
    if not path.exists() or not any(path.iterdir()):
        return
    if not overwrite:
        raise InputError(f"{path}: exists already; choose another name or give --overwrite")
    if not mark.on(path):
        raise InputError(f"{path}: holds something else than would be written, which --overwrite would delete")


def refuse_file(path: Path, *, overwrite: bool = False) -> None:
    """Refuse to write a file ``path`` over what is there; only a file may be overwritten.

    Raises:
        InputError: when ``path`` is a folder, or a file that may not be replaced.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder, and a file is to be written; choose another name")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name or give --overwrite")


def write_json(path: Path, data: Any) -> None:
    """Write ``data`` as indented JSON, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: when the file is missing or is no JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object")
    return data


def shared_data() -> Path | None:
    """The folder of real cells: ``LEUKOSCOPE_DATA``, else ``../shared/data``; None where it is absent."""
    place = Path(os.environ.get("LEUKOSCOPE_DATA", "../shared/data"))
    return place.resolve() if place.is_dir() else None
