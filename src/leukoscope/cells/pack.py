from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from leukoscope.cells.assemble import Assembler, reasons
from leukoscope.cells.cellset import MARK, CellSetInfo, Origin
from leukoscope.cells.inorder import in_order
from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.prepare import Outcome, ReadyCell, prepare_all
from leukoscope.cells.readers.decode import pillow_without_limit
from leukoscope.cells.readers.protocol import HEAVY, Plan
from leukoscope.cells.readers.registry import reader_for
from leukoscope.common.errors import InputError
from leukoscope.common.files import whole_folder
from leukoscope.common.machine import cpus
from leukoscope.common.progress import progress

__all__ = ["PackReport", "PackSettings", "pack"]


@dataclass(frozen=True)
class PackReport:
    """What packing did: cells packed, cells or files rejected and why, padding tiles dropped.

    ``ignored`` counts files of other kinds that were passed by, ``disagreed`` table rows that too few experts
    labelled alike; neither is an error.
    """

    packed: int
    rejected: int
    dropped_padding: int
    reader: str
    info: CellSetInfo
    ignored: int = 0
    disagreed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The report for a machine to read."""
        return {
            "packed": self.packed,
            "rejected": self.rejected,
            "reasons": self.reasons,
            "dropped_padding": self.dropped_padding,
            "disagreed": self.disagreed,
            "ignored": self.ignored,
            "reader": self.reader,
            "channels": list(self.info.channels),
            "height": self.info.height,
            "width": self.info.width,
            "dtype": self.info.dtype,
            "bit_depth": self.info.bit_depth,
            "pixels_fingerprint": self.info.pixels_fingerprint,
        }

    def lines(self) -> list[str]:
        """The report for a person to read; what did not happen is not told."""
        info = self.info
        # A depth that the camera did not tell is a guess, and another set's may come out otherwise.
        guessed = info.dtype != "uint8" and "bit_depth" not in info.packing
        depth = f"{info.bit_depth} bit" + (" (by its brightest pixel; else --bit-depth)" if guessed else "")
        shape = f"{info.width}x{info.height}, {depth}, {', '.join(info.channels)}"
        rejected = [f"  {count} {reason}" for reason, count in self.reasons.items()]
        told = [
            f"{self.packed} cells packed ({shape})",
            f"{self.rejected} rejected, listed in rejected.csv" if self.rejected else "",
            *rejected,
            f"{self.dropped_padding} padding tiles dropped" if self.dropped_padding else "",
            f"{self.disagreed} rows dropped, experts too few or not of one mind" if self.disagreed else "",
            f"{self.ignored} other files passed by" if self.ignored else "",
        ]
        return [line for line in told if line]


def pack(
    source: Path,
    out: Path,
    *,
    settings: PackSettings | None = None,
    origin: Origin | None = None,
    jobs: int = 0,
    overwrite: bool = False,
) -> PackReport:
    """Pack ``source`` into the CellSet ``out``: pixels as acquired; the same source gives the same bytes.

    Memory is that of the table and a few chunks of images; ``jobs`` 0 takes one thread a core. One bad file never stops
    the packing: it stands in ``rejected.csv``. Of a published set, ``origin`` keeps the licence and the citation.

    Raises:
        InputError: when the source as a whole cannot be read, nothing in it can be packed, or ``out`` exists already
            or cannot be written.
    """
    try:
        return _pack(source, out, settings or PackSettings(), origin, jobs or cpus(), overwrite)
    # Workers turn what they cannot read into rejections, so what arrives here is about the output: a full disk, say.
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error})") from None


def _pack(
    source: Path, out: Path, settings: PackSettings, origin: Origin | None, jobs: int, overwrite: bool
) -> PackReport:
    name, reader = reader_for(source, settings)
    with whole_folder(out, MARK, overwrite=overwrite) as folder, pillow_without_limit():
        if settings.fit is not None and settings.size is None:
            survey = _outcomes(reader.plan(source, settings), settings, jobs, "measuring")
            settings = settings.model_copy(update={"size": _common_side(survey, settings)})
        plan = reader.plan(source, settings)
        assembler = Assembler(folder, settings)
        for outcome in _outcomes(plan, settings, jobs, "packing"):
            assembler.take(outcome)
        with assembler.close() as writer:
            info = writer.finish(
                packing={"reader": name, **_rule(settings)},
                bit_depth=8 if settings.to_8_bit else settings.bit_depth,
                percentiles=settings.percentiles if settings.intensity == "percentile" else None,
                # Resized images no longer have the pixels that the camera had.
                pixel_size_um=settings.pixel_size_um or (None if settings.rule == "resize" else plan.pixel_size_um),
                origin=origin,
            )
    return PackReport(
        packed=info.count,
        rejected=len(assembler.rejections),
        dropped_padding=assembler.padding,
        reader=name,
        info=info,
        ignored=plan.ignored,
        disagreed=plan.disagreed,
        reasons=reasons(assembler.rejections),
    )


def _outcomes(plan: Plan, settings: PackSettings, jobs: int, doing: str) -> Iterator[Outcome]:
    work = partial(prepare_all, settings=settings)
    left = plan.total
    with progress(doing, plan.total, plan.unit) as advance:
        for count, outcomes in in_order(work, plan.items, jobs=jobs, weight=attrgetter("weight"), chunk=HEAVY):
            yield from outcomes
            advance(min(count, left))
            left -= min(count, left)


def _common_side(outcomes: Iterable[Outcome], settings: PackSettings) -> int | None:
    """The side that all cells can be brought to by the rule without a size; None where there are no cells."""
    shapes = {cell.picture.pixels.shape[1:] for cell in outcomes if isinstance(cell, ReadyCell)}
    if settings.rule == "crop":
        return min((min(shape) for shape in shapes), default=None)
    return max((max(shape) for shape in shapes), default=None)


def _rule(settings: PackSettings) -> dict[str, Any]:
    """The settings that were chosen, without the paths of this machine."""
    elsewhere = {"root", "max_pixels", "allow_outside", "pixel_size_um"}
    chosen = settings.model_dump(mode="json", exclude_defaults=True, exclude=elsewhere)
    return chosen | ({"fit": settings.rule} if settings.rule else {})
