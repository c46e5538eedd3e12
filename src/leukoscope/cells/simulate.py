from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from leukoscope.cells.cellset import MARK, CellSet
from leukoscope.cells.composition import PatientType
from leukoscope.cells.inorder import in_order
from leukoscope.cells.simulator.camera import exposed
from leukoscope.cells.simulator.composition import parse_composition
from leukoscope.cells.simulator.kinds import KINDS, Kind, kinds_named
from leukoscope.cells.simulator.optics import bright_field
from leukoscope.cells.simulator.patients import Patient, draw_patient
from leukoscope.cells.simulator.shapes import FIELD_UM
from leukoscope.cells.simulator.traits import Donor, Traits, draw_traits
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.common.files import whole_folder
from leukoscope.common.machine import cpus
from leukoscope.common.progress import progress
from leukoscope.common.settings import Settings

_CHUNK = 8
LATENTS = (
    "diameter_um", "elongation", "roughness", "nucleus_ratio", "lobes", "lobe_spread", "granules", "granule_um",
    "granule_phase", "chromatin_phase", "cytoplasm_index", "nucleus_index", "defocus_um", "x_um", "y_um", "angle",
    "debris_um",
)  # fmt: skip


class SimulateSettings(Settings):
    """What is simulated.

    ``composition`` None gives every kind equally often; else see ``parse_composition``. Of several patient types the
    patients take one each, in turn; all batches have all of them.
    """

    cells: int = Field(ge=1)
    size: int = Field(default=200, ge=16, le=1024)
    field_um: float = Field(default=FIELD_UM, ge=12, le=FIELD_UM)
    bit_depth: int = Field(default=8, ge=8, le=16)
    classes: tuple[str, ...] = tuple(KINDS)
    composition: str | tuple[str, ...] | dict[str, float] | None = None
    patients: int = Field(default=10, ge=1)
    batches: int = Field(default=2, ge=1)
    difficulty: float = Field(default=0.5, ge=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    instrument: int | None = Field(default=None, ge=0, lt=2**63)
    """Seed of what batches differ by, lamp and camera: sets of one instrument share batches. None is ``seed``."""


def simulate(
    out: Path,
    *,
    cells: int,
    size: int = 200,
    field_um: float = FIELD_UM,
    bit_depth: int = 8,
    classes: Sequence[str] | None = None,
    composition: str | Sequence[str] | Mapping[str, float] | None = None,
    patients: int = 10,
    batches: int = 2,
    difficulty: float = 0.5,
    seed: int = 0,
    instrument: int | None = None,
    jobs: int = 0,
    overwrite: bool = False,
) -> CellSet:
    """Render bright-field imaging-flow cells of eight kinds into the CellSet ``out``.

    A cell's pixels depend on the settings, the seed and its number only, never on ``jobs`` or how many follow. The
    field of view does not depend on ``size``, which shows the same cell finer or coarser.

    Args:
        out: the folder to make.
        cells: how many cells.
        size: side of the images in pixels.
        bit_depth: 8 gives uint8; 9 to 16 bits are kept in uint16.
        field_um: side of the field of view; a smaller one is the middle of the whole, and may cut large cells off.
        classes: the kinds to show; all eight when None. One left out is a novelty.
        composition: None for every kind equally often; else a patient type, several, or amounts of kinds: see
            :func:`~leukoscope.cells.simulator.composition.parse_composition`.
        patients: how many patients the cells come from, in turn.
        batches: how many batches the patients are spread over, in turn.
        difficulty: 0 to 1; how far the kinds overlap.
        seed: of everything random.
        instrument: seed of lamp, focus and camera of the batches; None takes ``seed``. Sets of one instrument show
            other cells of other patients under the same lamps.
        jobs: threads; 0 takes one a core.
        overwrite: replace what ``out`` holds already.

    Raises:
        InputError: when a setting is out of range, or ``out`` exists already and ``overwrite`` is false.
    """
    settings = SimulateSettings.parse(
        {
            "cells": cells, "size": size, "field_um": field_um, "bit_depth": bit_depth,
            "classes": tuple(classes or KINDS),
            "composition": dict(composition) if isinstance(composition, Mapping) else composition,
            "patients": patients, "batches": batches, "difficulty": difficulty, "seed": seed, "instrument": instrument,
        },
        where="simulate",
    )  # fmt: skip
    simulation = Simulation(settings)
    dtype = np.dtype(np.uint8 if bit_depth <= 8 else np.uint16)
    with (
        whole_folder(out, MARK, overwrite=overwrite) as folder,
        CellSetWriter(folder, channels=("bright-field",), height=size, width=size, dtype=dtype) as writer,
        progress("simulating", cells) as advance,
    ):
        workers = jobs or cpus()
        chunks = in_order(simulation.render, range(cells), jobs=workers, weight=lambda _: 1, chunk=_CHUNK)
        for _, (pixels, rows) in chunks:
            writer.add(pixels, rows)
            advance(len(rows))
        packing = {"simulator": settings.model_dump(mode="json")}
        writer.finish(packing=packing, bit_depth=bit_depth, pixel_size_um=simulation.pixel_size_um)
    return CellSet.open(out)


class Simulation:
    """Plans and renders cells by their number, in any order.

    Raises:
        InputError: when a kind or patient type is unknown, or the composition holds none of the classes.
    """

    def __init__(self, settings: SimulateSettings) -> None:
        self.settings = settings
        self.kinds = kinds_named(settings.classes)
        self.instrument = settings.seed if settings.instrument is None else settings.instrument
        numbers = range(settings.patients)
        self.donors: list[Donor] = [
            _draw_donor((settings.seed, n), (self.instrument, n % settings.batches)) for n in numbers
        ]
        compositions = _compositions(settings.composition)
        # A patient's batch goes by its number too: types change when every batch has had one.
        self.patients: list[Patient] = [
            draw_patient(
                compositions[number // settings.batches % len(compositions)],
                self.kinds,
                np.random.default_rng((settings.seed, 1, number)),
            )
            for number in (numbers if compositions else ())
        ]

    @property
    def pixel_size_um(self) -> float:
        """The side of a pixel in micrometres."""
        return FIELD_UM / self._whole_size()

    def render(self, numbers: Sequence[int]) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Pixels ``(n, 1, size, size)`` and table rows of the cells of these numbers."""
        size = self._whole_size()
        margin = (size - self.settings.size) // 2
        shown = slice(margin, margin + self.settings.size)
        cells, kinds, noise = [], [], np.empty((len(numbers), size, size), np.float32)
        for place, number in enumerate(numbers):
            rng = np.random.Generator(np.random.Philox(key=np.array([self.settings.seed, number], np.uint64)))
            kind, patient = self._kind_and_patient(number, rng.random())
            cells.append(draw_traits(kind, self.donors[patient], self.settings.difficulty, rng))
            kinds.append((kind.name, patient))
            noise[place] = rng.standard_normal((size, size), np.float32)
        whole = exposed(bright_field(cells, size), cells, noise, self.settings.bit_depth)
        pixels = np.ascontiguousarray(whole[:, None, shown, shown])
        rows = [
            self._row(number, image, kind, patient, cell)
            for number, image, (kind, patient), cell in zip(numbers, pixels, kinds, cells, strict=True)
        ]
        return pixels, rows

    def _whole_size(self) -> int:
        """The side of the whole field in pixels, of which the images show the middle."""
        return round(self.settings.size * FIELD_UM / self.settings.field_um)

    def _kind_and_patient(self, number: int, uniform: float) -> tuple[Kind, int]:
        """Balanced sets take kinds in turn and then patients in turn; else the patient's proportions decide."""
        if not self.patients:
            turn, kind = divmod(number, len(self.kinds))
            return self.kinds[kind], turn % self.settings.patients
        patient = number % self.settings.patients
        upper = np.cumsum(self.patients[patient].proportions)
        # The last bound may round to just below 1.
        place = min(int(np.searchsorted(upper, uniform, side="right")), len(upper) - 1)
        return self.patients[patient].kinds[place], patient

    def _row(self, number: int, pixels: np.ndarray, kind: str, patient: int, cell: Traits) -> dict[str, Any]:
        # Patients of another seed, and batches of another instrument, are others and are called otherwise.
        name = f"P{self.settings.seed}-{patient + 1:03d}"
        batch = f"B{self.instrument}-{patient % self.settings.batches + 1}"
        return {
            "cell_id": cell_id(pixels, "simulated", number),
            "source": "simulated",
            "label": kind,
            "patient": name,
            "slide": f"{name}-{batch}",
            "batch": batch,
            "patient_type": self.patients[patient].patient_type if self.patients else "balanced",
            **{latent: getattr(cell, latent) for latent in LATENTS},
        }


def _compositions(given: str | Sequence[str] | Mapping[str, float] | None) -> list[PatientType | Mapping[str, float]]:
    """What patients are made of, in turn; none where every kind is equally often."""
    if given is None or isinstance(given, Mapping):
        return [] if given is None else [given]
    return [parse_composition(each) for each in ([given] if isinstance(given, str) else given)]


def _draw_donor(patient: tuple[int, int], batch: tuple[int, int]) -> Donor:
    """What all cells of a patient (seed and number) share, measured in a batch (instrument and number)."""
    seed, number = patient
    instrument, turn = batch
    own = np.random.default_rng((seed, 2, number)).standard_normal(3)
    lamp = np.random.default_rng((instrument, 3, turn)).standard_normal(8)
    return Donor(
        size=float(np.exp(0.025 * own[0])),
        granularity=float(np.exp(0.08 * own[1])),
        index=float(np.exp(0.03 * own[2])),
        focus_um=0.3 * float(lamp[0]),
        brightness=float(np.exp(0.05 * lamp[1])),
        slope=(0.04 * float(lamp[2]), 0.04 * float(lamp[3])),
        vignetting=0.04 * abs(float(lamp[4])),
        blur=float(np.clip(0.2 + 0.1 * lamp[5], 0, 0.5)),
        noise=float(np.exp(0.15 * lamp[6])),
        columns=instrument * 1000 + turn,
    )
