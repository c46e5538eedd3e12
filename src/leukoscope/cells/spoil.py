from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from leukoscope.cells.cellset import MARK, CellSet, content_hash
from leukoscope.cells.inorder import in_order
from leukoscope.cells.spoiling.camera import Camera
from leukoscope.cells.spoiling.kinds import KINDS, spoil_cell
from leukoscope.cells.spoiling.plan import NORMAL, Step, generator, plan
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.common.errors import InputError
from leukoscope.common.files import whole_folder
from leukoscope.common.machine import cpus
from leukoscope.common.progress import progress
from leukoscope.common.settings import Settings

COLUMNS = ("quality", "grade", "spoiled_from", "second_cell")
_CHUNK = 16


class SpoilSettings(Settings):
    """What is spoiled and how much: see :func:`spoil`."""

    kinds: tuple[str, ...] = Field(default=KINDS, min_length=1)
    grade: tuple[float, float] = (0.3, 1.0)
    share: float = Field(default=0.5, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**63)

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        strangers = [kind for kind in kinds if kind not in KINDS]
        if strangers:
            raise ValueError(f"no kind {strangers[0]!r}; choose from {', '.join(KINDS)}")
        return kinds

    @field_validator("grade")
    @classmethod
    def _a_range(cls, grade: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= grade[0] <= grade[1] <= 1:
            raise ValueError("give the lowest and the highest, from 0 to 1")
        return grade


def spoil(
    cellset: CellSet,
    out: Path,
    *,
    kinds: Sequence[str] = KINDS,
    grade: tuple[float, float] = (0.3, 1.0),
    share: float = 0.5,
    seed: int = 0,
    jobs: int = 0,
    overwrite: bool = False,
) -> CellSet:
    """Spoil a share of real cells, as acquisition does, into the CellSet ``out``; the rest stay as they are.

    Each spoiled cell is spoiled by one kind, so that the new column ``quality`` is a class: ``normal`` or the kind.
    Every cell of the source is shown once, spoiled or not (a doublet shows two), so no fold can have a cell on one side
    and its spoiled copy on the other. What is done to a cell depends on its pixels and the seed, never on the order of
    the cells, the threads or what else is in the set; only doublets need a second cell, see
    :func:`~leukoscope.cells.spoiling.plan.plan`.

    The table keeps all columns and adds ``quality``; ``grade``, 0 for normal cells; ``spoiled_from``, the ``cell_id``
    in the source; and ``second_cell``, that of a doublet's second. ``label`` still says what the cell was before.

    Args:
        cellset: the source.
        out: the folder to make.
        kinds: of :data:`KINDS`, equally likely.
        grade: the lowest and highest, 0 (nothing) to 1, equally likely between them; ``empty`` has no grades and is 1.
        share: of the cells that are spoiled.
        seed: of everything random.
        jobs: threads; 0 takes one a core.
        overwrite: replace what ``out`` holds already.

    Raises:
        InputError: when a setting is out of range, the source holds no cells, was spoiled before or is ``out`` itself,
            or ``out`` exists already and ``overwrite`` is false.
    """
    settings = SpoilSettings.parse(
        {"kinds": tuple(kinds), "grade": tuple(grade), "share": share, "seed": seed}, where="spoil"
    )
    _refuse(cellset, out)
    steps = plan(cellset.cells, kinds=settings.kinds, grade=settings.grade, share=share, seed=seed)
    info = cellset.info
    render = partial(_render, cellset, Camera.of(info), seed)
    with (
        whole_folder(out, MARK, overwrite=overwrite) as folder,
        CellSetWriter.like(folder, info) as writer,
        progress("spoiling", len(steps)) as advance,
    ):
        chunks = in_order(render, steps, jobs=jobs or cpus(), weight=lambda _: 1, chunk=_CHUNK)
        for count, (pixels, rows) in chunks:
            writer.add(pixels, rows)
            advance(count)
        how = {"pixels": cellset.pixels_fingerprint, **settings.model_dump(mode="json")}
        writer.finish_like(info, {"spoil": how})
    return CellSet.open(out)


def _refuse(cellset: CellSet, out: Path) -> None:
    if not len(cellset):
        raise InputError(f"{cellset.path}: holds no cells to spoil")
    if out.resolve() == cellset.path.resolve():
        raise InputError(f"{out}: is the source itself, and the cells as acquired would be lost; choose another folder")
    taken = [name for name in COLUMNS if name in cellset.cells.columns]
    if taken:
        raise InputError(
            f"{cellset.path}: has a column {taken[0]!r} already, which spoil writes; give cells that were not"
        )


def _render(
    cellset: CellSet, camera: Camera, seed: int, steps: Sequence[Step]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Pixels ``(n, C, H, W)`` and table rows of the cells of these steps."""
    places = [step.row for step in steps]
    pixels = cellset.read(places)
    rows = [{str(name): value for name, value in row.items()} for row in cellset.cells.iloc[places].to_dict("records")]
    for place, (step, row) in enumerate(zip(steps, rows, strict=True)):
        source = row["cell_id"]
        row |= {"quality": step.quality, "grade": step.grade, "spoiled_from": source, "second_cell": None}
        if step.quality == NORMAL:
            continue
        second = None
        if step.second is not None:
            second = cellset.read([step.second])[0]
            row["second_cell"] = cellset.ids[step.second]
        rng = generator(seed, content_hash(source), 1)
        pixels[place] = spoil_cell(pixels[place], step.quality, step.grade, camera, rng, second=second)
        # The hash is that of the new pixels; path and place within the file are the source's.
        row["cell_id"] = f"{content_hash(cell_id(pixels[place], ''))}:{source.partition(':')[2]}"
    return pixels, rows
