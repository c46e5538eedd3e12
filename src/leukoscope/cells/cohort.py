from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator
from scipy.ndimage import gaussian_filter

from leukoscope.cells.cellset import MARK, CellSet, acquired_as
from leukoscope.cells.cohorts.plan import CohortPlan, draw_cells, read_plan
from leukoscope.cells.labels import labels_of
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.common.errors import InputError
from leukoscope.common.files import whole_folder
from leukoscope.common.progress import progress
from leukoscope.common.settings import Settings


class CohortSettings(Settings):
    """How patients are made: see :func:`cohort`."""

    plan: str = "blood-smear"
    composition: tuple[str, ...] = ()
    patients: int = Field(default=50, ge=2)
    cells: tuple[int, int] = (80, 120)
    pools: int = Field(default=5, ge=1)
    reuse: bool = False
    tint: float = Field(default=0.0, ge=0, le=1)
    focus: float = Field(default=0.0, ge=0, le=10)
    seed: int = Field(default=0, ge=0, lt=2**63)

    @field_validator("cells")
    @classmethod
    def _a_range(cls, cells: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= cells[0] <= cells[1]:
            raise ValueError("give the fewest and the most cells of a patient, at least 1")
        return cells


def cohort(
    cellset: CellSet,
    out: Path,
    *,
    plan: str | CohortPlan = "blood-smear",
    composition: Sequence[str] = (),
    patients: int = 50,
    cells: tuple[int, int] = (80, 120),
    pools: int = 5,
    reuse: bool = False,
    tint: float = 0.0,
    focus: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
) -> CellSet:
    """Make patients of labelled cells, whose composition and whose own looks are known, into the CellSet ``out``.

    What tells the types apart is planted: so is what attention should find, and, with ``tint`` and ``focus``, what a
    split that parts a patient would learn instead.

    The table keeps all columns and adds ``patient`` (one that was there becomes ``donor``), ``patient_type``, ``pool``;
    ``drawn_from``, the ``cell_id`` of the image as acquired; ``tint_CHANNEL``, a factor on the optical density, and
    ``defocus_px``, of the patient.

    Args:
        cellset: the source; cells without a label, or of kinds that the plan does not name, take no part.
        out: the folder to make.
        plan: what patients are made of: a name of :func:`~leukoscope.cells.cohorts.plan.plan_names`, or a YAML file.
        composition: types that patients take in turn, ``TYPE`` or ``TYPE+KIND=PERCENT``; all of the plan when empty.
        patients: how many.
        cells: fewest and most of a patient.
        pools: parts of the source, which keep its patients or slides whole; a patient's cells are all of one pool.
        reuse: let a cell stand for several patients of its pool, never twice for one.
        tint: standard deviation of the logarithm of each channel's factor.
        focus: standard deviation, in pixels, of the blur of a patient's images (a half normal distribution).
        seed: of everything random.
        overwrite: replace what ``out`` holds already.

    Raises:
        InputError: when a setting is out of range, the source has too few cells or is ``out`` itself, or ``out``
            exists already.
    """
    own = plan if isinstance(plan, CohortPlan) else read_plan(plan)
    settings = CohortSettings.parse(
        {
            "plan": plan if isinstance(plan, str) else "given", "composition": tuple(composition), "patients": patients,
            "cells": tuple(cells), "pools": pools, "reuse": reuse, "tint": tint, "focus": focus, "seed": seed,
        },
        where="cohort",
    )  # fmt: skip
    if out.resolve() == cellset.path.resolve():
        raise InputError(f"{out}: is the source itself; choose another folder")
    if "drawn_from" in cellset.cells:
        raise InputError(f"{cellset.path}: is a cohort that was made already; give the cells that it was made of")
    drawn = draw_cells(
        cellset.cells,
        labels_of(cellset, column=own.label),
        own,
        composition=settings.composition,
        patients=patients,
        size=settings.cells,
        pools=pools,
        reuse=reuse,
        seed=seed,
    )
    info = cellset.info
    with (
        whole_folder(out, MARK, overwrite=overwrite) as folder,
        CellSetWriter.like(folder, info) as writer,
        progress("drawing patients", sum(len(rows) for _, rows in drawn)) as advance,
    ):
        for number, (name, rows) in enumerate(drawn):
            look = Look.draw(len(info.channels), settings, np.random.default_rng((seed, number)))
            pixels = look.at(cellset.read(rows), white=2**info.bit_depth - 1)
            writer.add(pixels, _rows(cellset, rows, pixels, number, name, look, settings))
            advance(len(rows))
        how = {"pixels": cellset.pixels_fingerprint, **settings.model_dump(mode="json"), "of": own.model_dump()}
        writer.finish_like(info, {"cohort": how})
    return CellSet.open(out)


class Look:
    """What images of a patient share: factors on the optical density of each channel ``(C,)``, a blur in pixels."""

    def __init__(self, tint: np.ndarray, defocus_px: float) -> None:
        self.tint = tint
        self.defocus_px = defocus_px

    @classmethod
    def draw(cls, channels: int, settings: CohortSettings, rng: np.random.Generator) -> "Look":
        """The look of one patient."""
        tint = np.exp(settings.tint * rng.standard_normal(channels))
        return cls(tint, settings.focus * abs(float(rng.standard_normal())))

    def at(self, pixels: np.ndarray, *, white: int) -> np.ndarray:
        """Cells ``(n, C, H, W)`` as they look in this patient, in the same dtype; black and ``white`` stay so."""
        if self.defocus_px == 0 and (self.tint == 1).all():
            return pixels
        # A factor on the optical density -log(I / white) is a power of the intensity.
        shown = (pixels / white) ** self.tint[:, None, None]
        if self.defocus_px > 0:
            shown = gaussian_filter(shown, self.defocus_px, axes=(2, 3), mode="nearest")
        looked: np.ndarray = np.rint(shown.clip(0, 1) * white).astype(pixels.dtype)
        return looked


def _rows(
    cellset: CellSet,
    rows: np.ndarray,
    pixels: np.ndarray,
    number: int,
    name: str,
    look: Look,
    settings: CohortSettings,
) -> list[dict[str, Any]]:
    patient = f"C{settings.seed}-{number + 1:03d}"
    own = {
        "patient": patient,
        "patient_type": name,
        "pool": number % settings.pools,
        **{f"tint_{channel}": float(factor) for channel, factor in zip(cellset.info.channels, look.tint, strict=True)},
        "defocus_px": look.defocus_px,
    }
    table = cellset.cells.iloc[rows].rename(columns={"patient": "donor"})
    return [
        {str(key): value for key, value in row.items()}
        | own
        | {
            "drawn_from": origin,
            # The same image may stand for several patients: an id tells them apart, and begins with its own hash.
            "cell_id": f"{cell_id(image, '').partition(':')[0]}:{patient}/{row['cell_id'].partition(':')[2]}",
        }
        for image, row, origin in zip(pixels, table.to_dict("records"), acquired_as(table), strict=True)
    ]
