import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from leukoscope.cells.assemble import Assembler, reasons
from leukoscope.cells.cellset import CellSetInfo
from leukoscope.cells.inorder import in_order
from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.prepare import Outcome, prepare_all
from leukoscope.cells.readers.protocol import HEAVY, Plan
from leukoscope.cells.readers.registry import reader_for
from leukoscope.common.files import whole_folder
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


def pack(
    source: Path, out: Path, *, settings: PackSettings | None = None, jobs: int = 0, overwrite: bool = False
) -> PackReport:
    """Pack ``source`` into the CellSet ``out``: pixels as acquired; the same source gives the same bytes.

    Memory is that of the table and a few chunks of images; ``jobs`` 0 takes one thread a core. One bad file never stops
    the packing: it stands in ``rejected.csv``.

    Raises:
        InputError: when the source as a whole cannot be read, nothing in it can be packed, or ``out`` exists.
    """
    settings = settings or PackSettings()
    name, reader = reader_for(source, settings)
    with whole_folder(out, overwrite=overwrite) as folder, _our_own_limit():
        plan = reader.plan(source, settings)
        assembler = Assembler(folder, settings)
        for outcome in _outcomes(plan, settings, jobs or len(os.sched_getaffinity(0))):
            assembler.take(outcome)
        with assembler.close() as writer:
            info = writer.finish(
                packing={"reader": name, **_rule(settings)},
                bit_depth=8 if settings.to_8_bit else settings.bit_depth,
                percentiles=settings.percentiles if settings.intensity == "percentile" else None,
                pixel_size_um=settings.pixel_size_um or plan.pixel_size_um,
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


@contextmanager
def _our_own_limit() -> Iterator[None]:
    """Pillow's limit on pixels is a global of its own; ``max_pixels`` is checked before any pixel is decoded."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _outcomes(plan: Plan, settings: PackSettings, jobs: int) -> Iterator[Outcome]:
    work = partial(prepare_all, settings=settings)
    with progress("packing", plan.total, plan.unit) as advance:
        for count, outcomes in in_order(work, plan.items, jobs=jobs, weight=lambda p: p.weight, chunk=HEAVY):
            yield from outcomes
            advance(count)


def _rule(settings: PackSettings) -> dict[str, Any]:
    """The settings that were chosen, without the paths of this machine."""
    return settings.model_dump(mode="json", exclude_defaults=True, exclude={"root", "max_pixels", "allow_outside"})
