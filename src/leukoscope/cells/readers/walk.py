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
    """Files of a source with their relative paths, in that order; those refused; how many others were passed by."""

    files: list[tuple[str, Path]]
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
        return source.parent, Found([(source.name, source)], [], 0)
    bounds = Bounds(source, settings)
    files: list[tuple[str, Path]] = []
    refused: list[Rejection] = []
    ignored = 0
    for path in _walk(source, bounds, refused):
        if path.suffix.lower() not in suffixes:
            ignored += 1
        elif reason := bounds.refusal(path):
            refused.append(Rejection(relative(path, source), None, reason))
        else:
            files.append((relative(path, source), path))
    if not files and not refused:
        raise InputError(f"{source}: holds no {what} ({ignored} other files); is it the right folder?")
    return source, Found(sorted(files), sorted(refused, key=lambda rejection: rejection.path), ignored)


class Bounds:
    """Keeps reading inside the folder ``root``, unless the settings allow files outside."""

    def __init__(self, root: Path, settings: PackSettings) -> None:
        self._top = root.resolve()
        self._open = settings.allow_outside
        self._folders: dict[Path, bool] = {}

    def refusal(self, path: Path) -> str | None:
        """Why ``path`` must not be opened: it is missing, no regular file, or leaves the folder."""
        try:
            mode = path.lstat().st_mode
            is_link = stat.S_ISLNK(mode)
            if is_link:
                mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
        if not stat.S_ISREG(mode):
            return "not a regular file"
        # Following a path costs as much as decoding a small image, so it is done once a folder.
        holds = self.holds(path) if is_link else self._folder_is_inside(path.parent)
        return None if holds else OUTSIDE

    def holds(self, path: Path) -> bool:
        """Whether ``path``, its links followed, lies inside."""
        return self._open or path.resolve().is_relative_to(self._top)

    def _folder_is_inside(self, folder: Path) -> bool:
        if folder not in self._folders:
            self._folders[folder] = self.holds(folder)
        return self._folders[folder]


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


def _walk(root: Path, bounds: Bounds, refused: list[Rejection]) -> Iterator[Path]:
    def cannot_enter(error: OSError) -> None:
        refused.append(
            Rejection(relative(Path(error.filename), root), None, f"folder cannot be opened ({error.strerror})")
        )

    seen = {root.resolve()}
    for folder, subfolders, names in os.walk(root, onerror=cannot_enter, followlinks=True):
        here = Path(folder)
        kept = []
        for name in sorted(subfolders):
            inner = here / name
            if name.startswith(".") or name == "__MACOSX":
                continue
            if not bounds.holds(inner):
                refused.append(Rejection(relative(inner, root), None, f"folder {OUTSIDE}"))
                continue
            # A link to a folder inside would pack it twice, one to a folder above would never end.
            if (target := inner.resolve()) not in seen and not (
                inner.is_symlink() and target.is_relative_to(root.resolve())
            ):
                seen.add(target)
                kept.append(name)
        subfolders[:] = kept
        yield from (here / name for name in names if not name.startswith("."))
