import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.protocol import Rejection
from leukoscope.common.errors import InputError

OUTSIDE = "lies outside the source; give --allow-outside to take it"


@dataclass(frozen=True)
class Found:
    """Files of a source by their relative paths, in that order; those refused; and how many others were passed by."""

    files: dict[str, Path]
    refused: list[Rejection]
    ignored: int


def find_files(source: Path, suffixes: Collection[str], settings: PackSettings, *, what: str) -> tuple[Path, Found]:
    """List the regular files of ``source`` whose suffix is among ``suffixes``, and the folder they are relative to.

    ``source`` is a folder, or one file. Hidden files and folders are passed by. A symbolic link that leaves the
    folder is refused unless the settings allow it; a link to a folder inside is passed by, since the folder itself
    is read.

    Raises:
        InputError: when there is none; ``what`` names the kind in the message.
    """
    if not source.is_dir():
        return source.parent, Found({source.name: source}, [], 0)
    top = source.resolve()
    files: list[tuple[str, Path]] = []
    refused: list[Rejection] = []
    ignored = 0
    for path in _walk(source, top, refused, settings.allow_outside):
        if path.suffix.lower() not in suffixes:
            ignored += 1
        elif not _is_plain_file(path) and (reason := refusal(path, top, settings)):
            refused.append(Rejection(relative(path, source), None, reason))
        else:
            files.append((relative(path, source), path))
    if not files and not refused:
        raise InputError(f"{source}: holds no {what} ({ignored} other files); is it the right folder?")
    return source, Found(dict(sorted(files)), sorted(refused, key=lambda rejection: rejection.path), ignored)


def refusal(path: Path, top: Path, settings: PackSettings) -> str | None:
    """Why ``path`` must not be opened: it leaves the resolved folder ``top``, is missing, or is no regular file."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    if not stat.S_ISREG(mode):
        return "not a regular file"
    if not settings.allow_outside and not path.resolve().is_relative_to(top):
        return OUTSIDE
    return None


def _is_plain_file(path: Path) -> bool:
    """Whether a path found by walking is a file and no link, so that it cannot lead out of the source."""
    return stat.S_ISREG(path.lstat().st_mode)


def relative(path: Path, root: Path) -> str:
    """The path below ``root`` with forward slashes, printable whatever bytes the file system holds."""
    # The general rule costs as much as decoding a small image.
    below = path.is_relative_to(root) and ".." not in path.parts
    text = (path.relative_to(root) if below else Path(os.path.relpath(path, root))).as_posix()
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def path_columns(source: str, settings: PackSettings) -> dict[str, Any]:
    """Table columns that a relative path tells: the first sub-folder is the class; ``from_path`` adds its groups."""
    first, separator, _ = source.partition("/")
    columns: dict[str, Any] = {"label": first} if separator else {}
    match = re.search(settings.from_path, source) if settings.from_path else None
    return columns | ({name: text for name, text in match.groupdict().items() if text} if match else {})


def _walk(root: Path, top: Path, refused: list[Rejection], allow_outside: bool) -> Iterator[Path]:
    seen = {top}
    for folder, subfolders, names in os.walk(root, followlinks=allow_outside):
        here = Path(folder)
        kept = []
        for name in sorted(subfolders):
            inner = here / name
            target = inner.resolve()
            if name.startswith(".") or name == "__MACOSX":
                continue
            if inner.is_symlink() and not allow_outside:
                if not target.is_relative_to(top):
                    refused.append(Rejection(relative(inner, root), None, f"folder {OUTSIDE}"))
                continue
            # A link may lead back to a folder above: each folder is entered once.
            if target not in seen:
                seen.add(target)
                kept.append(name)
        subfolders[:] = kept
        yield from (here / name for name in names if not name.startswith("."))
