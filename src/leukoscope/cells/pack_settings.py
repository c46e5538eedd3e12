import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings

LABEL_PREFIX = r"(?P<label>[^/_]+)_[^/]*$"


class PackSettings(Settings):
    """How a source becomes a CellSet. Lengths are in pixels unless they say otherwise.

    Attributes:
        reader: name of the reader to use; None lets the source decide.
        size: side of the square images that ``fit`` makes; None takes the largest side that the source holds (the
            smallest, for ``crop``), at the price of reading it twice.
        fit: rule for images of another size: ``pad``, ``crop`` or ``resize``, which a ``size`` alone means; where
            neither is given, images of another size than the first are rejected.
        centre: keep the middle square of this side of each image before anything else.
        tile: side of the tiles of a montage.
        channels: one ``PATTERN`` or ``NAME=PATTERN`` a channel, each with one star that joins files of one image; or
            ``NAME={COLUMN}``, where a table names the files of each channel, such as ``DNA={PathName}/{FileName_DNA}``.
        pages: what the pages of a multi-page TIFF are: ``cells``, or the ``channels`` of one cell.
        crop: side of the crops around the centroids of a table with columns path, x and y.
        root: folder that the paths of a table are relative to; None takes the table's own.
        columns: ``NEW=OLD`` renames of table columns (or, in RT-DC files, features to keep).
        path_template: how a table without a column ``path`` names its files, such as ``{image ID:03d}.bmp``.
        from_path: regular expression searched in each relative path; its named groups become columns.
        names: column to what its values are called: ``{label: {"1": neutrophil}}``; other values stay as they are.
        agree: keep rows that at least so many experts labelled, all alike (Hairy cells, section 4.1.2).
        experts: pattern of the names of the experts' columns.
        bit_depth: bits that the camera used, such as 12 in 16-bit files; None takes the fewest that hold the pixels.
        to_8_bit: divide deeper pixels down to 8 bit, from the whole range of ``bit_depth``, which it needs.
        intensity: rule that scales pixels to [0, 1]; ``percentile`` takes ``percentiles`` over the whole set.
        pixel_size_um: side of a pixel, as packed, in micrometres; None takes what the source tells, unless resized.
        max_pixels: refuse an image with more pixels than this; None takes 2**23, for montages and fields 2**26.
        allow_outside: take files that lie outside the source (symbolic links, ``..``, absolute paths).
    """

    reader: str | None = None
    size: int | None = None
    fit: Literal["pad", "crop", "resize"] | None = None
    centre: int | None = None
    tile: int | None = None
    channels: tuple[str, ...] = ()
    pages: Literal["cells", "channels"] = "cells"
    crop: int | None = None
    root: Path | None = None
    columns: tuple[str, ...] = ()
    path_template: str | None = None
    from_path: str | None = None
    names: dict[str, dict[str, str]] = Field(default_factory=dict)
    agree: int | None = None
    experts: str = "expert_*"
    bit_depth: int | None = None
    to_8_bit: bool = False
    intensity: Literal["bit_depth", "percentile"] = "bit_depth"
    percentiles: tuple[float, float] = (0.1, 99.9)
    pixel_size_um: float | None = None
    max_pixels: int | None = None
    allow_outside: bool = False

    @property
    def cell_limit(self) -> int:
        """The most pixels that an image of one cell may have: some dozens of them are held in memory at a time."""
        return self.max_pixels or 2**23

    @property
    def sheet_limit(self) -> int:
        """The most pixels that a montage or a field of view may have."""
        return self.max_pixels or 2**26

    @property
    def rule(self) -> Literal["pad", "crop", "resize"] | None:
        """The rule for images of another size."""
        return self.fit or ("resize" if self.size else None)

    @property
    def renames(self) -> dict[str, str]:
        """Old column name to new, from ``columns``."""
        return {old: new for new, _, old in (text.partition("=") for text in self.columns)}

    @field_validator("size", "centre", "tile", "crop", "agree", "max_pixels")
    @classmethod
    def _positive(cls, value: int | None) -> int | None:
        if value is not None and value < 1:
            raise ValueError("must be at least 1")
        return value

    @field_validator("channels")
    @classmethod
    def _one_star_or_columns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        if any("{" in pattern for pattern in patterns):
            return _by_columns(patterns)
        for pattern in patterns:
            if pattern.count("*") != 1 or "/" in pattern:
                raise ValueError(f"{pattern!r} needs exactly one star and no folder, such as 'Ch3_*.tif'")
        return patterns

    @field_validator("columns")
    @classmethod
    def _new_and_old(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        for text in columns:
            new, _, old = text.partition("=")
            if not new or not old:
                raise ValueError(f"{text!r} is not NEW=OLD, such as label='class label'")
        return columns

    @field_validator("names", mode="before")
    @classmethod
    def _codes_are_text(cls, names: Any) -> Any:
        """YAML reads a class called 1 as a number."""
        if not isinstance(names, Mapping) or not all(isinstance(each, Mapping) for each in names.values()):
            return names
        return {column: {str(old): new for old, new in each.items()} for column, each in names.items()}

    @field_validator("from_path")
    @classmethod
    def _named_groups(cls, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            groups = re.compile(text).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        if not groups:
            raise ValueError("names no column; write a group such as (?P<label>[A-Z]+)_")
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.to_8_bit and self.bit_depth is None:
            raise ValueError("to_8_bit needs bit_depth, the bits that the camera used: 12 bits in 16 would turn black")
        if self.bit_depth is not None and not 1 <= self.bit_depth <= 16:
            raise ValueError("bit_depth must lie between 1 and 16")
        if self.tile and self.crop:
            raise ValueError("tile cuts a montage, crop cuts fields: give one of them")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError("percentiles must rise, from 0 to 100")
        return self


def _by_columns(templates: tuple[str, ...]) -> tuple[str, ...]:
    for template in templates:
        if "{" not in template:
            raise ValueError(f"{template!r} names no column: give all channels by columns, or all by patterns")
        if "=" not in template.partition("{")[0]:
            raise ValueError(f"{template!r} says no channel; write DNA={template}")
    return templates


def class_names(pairs: Iterable[str]) -> dict[str, dict[str, str]]:
    """What ``names`` holds for classes given as ``NEW=OLD``, such as ``neutrophil=1``.

    Raises:
        InputError: when one is not ``NEW=OLD``, or two rename the same class.
    """
    names: dict[str, str] = {}
    for text in pairs:
        new, _, old = text.partition("=")
        if not new or not old:
            raise InputError(f"--class {text}: expected NEW=OLD, such as neutrophil=1")
        if old in names:
            raise InputError(f"--class {text}: {old} is called {names[old]} already")
        names[old] = new
    return {"label": names} if names else {}
