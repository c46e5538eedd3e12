import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.protocol import Rejection
from leukoscope.cells.readers.walk import Found, relative
from leukoscope.common.errors import InputError


@dataclass(frozen=True)
class ImageFiles:
    """The files of one image (one, or one a channel) and the path that stands for them in the table."""

    source: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class ChannelPatterns:
    """What names the files of one image, one pattern a channel: a star that matches the same text in all of them.

    Or columns of a table: ``{folder}/{file}``.
    """

    names: tuple[str, ...]
    patterns: tuple[str, ...]

    @classmethod
    def of(cls, settings: PackSettings) -> "ChannelPatterns":
        """From ``PATTERN`` or ``NAME=PATTERN``; a pattern without a name is called by its fixed part."""
        pairs = [text.rpartition("=") for text in settings.channels]
        patterns = tuple(pattern for _, _, pattern in pairs)
        return cls(tuple(name or _fixed_part(pattern) for name, _, pattern in pairs), patterns)

    @property
    def by_columns(self) -> bool:
        """Whether columns of a table name the files."""
        return any("{" in pattern for pattern in self.patterns)

    def star(self, name: str, channel: int) -> str | None:
        """What the star of ``channel`` matches in a file name; None where the pattern does not fit."""
        before, _, after = self.patterns[channel].partition("*")
        fits = len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after)
        return name[len(before) : len(name) - len(after)] if fits else None

    def group(self, found: Found, root: Path) -> tuple[list[ImageFiles], list[Rejection], int]:
        """Join files of one folder and one star; returns the images, those with a channel missing, and files left."""
        parts: dict[tuple[Path, str], dict[int, Path]] = {}
        left = 0
        for _, path in found.files:
            matches = [(channel, self.star(path.name, channel)) for channel in range(len(self.patterns))]
            taken = [(channel, star) for channel, star in matches if star is not None]
            left += not taken
            for channel, star in taken:
                parts.setdefault((path.parent, star), {})[channel] = path
        images, refused = [], []
        for (_, star), files in parts.items():
            source = relative(files[min(files)], root)
            missing = [p.replace("*", star) for c, p in enumerate(self.patterns) if c not in files]
            if missing:
                refused.append(Rejection(source, None, f"channel missing (no {', '.join(missing)} beside it)"))
            else:
                images.append(ImageFiles(source, tuple(files[c] for c in range(len(self.patterns)))))
        return images, refused, left

    def beside(self, path: Path) -> tuple[Path, ...] | None:
        """The files of all channels, from the path of the first one's; None where its name does not fit."""
        star = self.star(path.name, 0)
        return None if star is None else tuple(path.with_name(p.replace("*", star)) for p in self.patterns)


def image_files(found: Found, root: Path, settings: PackSettings) -> tuple[list[ImageFiles], list[Rejection], int]:
    """The images among the files found: (images in order, rejections, files of no channel).

    Raises:
        InputError: when ``settings.from_path`` is found in none of them, or channels are named by columns.
    """
    images = [ImageFiles(source, (path,)) for source, path in found.files]
    refused, left = found.refused, 0
    if settings.channels:
        patterns = ChannelPatterns.of(settings)
        if patterns.by_columns:
            raise InputError(
                f"{root}: --channels {settings.channels[0]} names a column, and a folder has none; give a table"
            )
        joined, incomplete, left = patterns.group(found, root)
        images = sorted(joined, key=lambda image: image.source)
        refused = sorted([*refused, *incomplete], key=lambda rejection: rejection.path)
    if images and settings.from_path and not any(re.search(settings.from_path, image.source) for image in images):
        raise InputError(
            f"{root}: --from-path {settings.from_path!r} is found in none of {len(images)} paths, such as "
            f"{images[0].source}"
        )
    return images, refused, left


def channel_names(settings: PackSettings) -> tuple[str, ...]:
    """Names of the joined channels; empty where nothing is joined."""
    return ChannelPatterns.of(settings).names if settings.channels else ()


def _fixed_part(pattern: str) -> str:
    stem: Sequence[str] = re.sub(r"(\.ome)?\.[A-Za-z]+$", "", pattern).split("*")
    return "".join(stem).strip("_-. ") or pattern
