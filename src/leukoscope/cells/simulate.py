import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulator.camera import exposed
from leukoscope.cells.simulator.kinds import KINDS, Kind, kinds_named
from leukoscope.cells.simulator.optics import bright_field
from leukoscope.cells.simulator.patients import Patient, draw_patient, parse_composition
from leukoscope.cells.simulator.shapes import FIELD_UM
from leukoscope.cells.simulator.traits import Donor, Traits, draw_traits
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.common.files import whole_folder
from leukoscope.common.progress import progress
from leukoscope.common.settings import Settings

_CHUNK = 32
_LATENTS = (
    "diameter_um", "elongation", "roughness", "nucleus_ratio", "lobes", "lobe_spread", "granules", "granule_um",
    "granule_phase", "chromatin_phase", "cytoplasm_index", "nucleus_index", "defocus_um", "x_um", "y_um", "angle",
)  # fmt: skip


class SimulateSettings(Settings):
    """What is simulated. ``composition`` None gives every kind equally often; else see ``parse_composition``."""

    cells: int = Field(ge=1)
    size: int = Field(default=200, ge=16, le=1024)
    bit_depth: int = Field(default=8, ge=8, le=16)
    classes: tuple[str, ...] = tuple(KINDS)
    composition: str | dict[str, float] | None = None
    patients: int = Field(default=10, ge=1)
    batches: int = Field(default=2, ge=1)
    difficulty: float = Field(default=0.5, ge=0, le=1)
    seed: int = Field(default=0, ge=0)


def simulate(
    out: Path,
    *,
    cells: int,
    size: int = 200,
    bit_depth: int = 8,
    classes: Sequence[str] | None = None,
    composition: str | Mapping[str, float] | None = None,
    patients: int = 10,
    batches: int = 2,
    difficulty: float = 0.5,
    seed: int = 0,
    jobs: int = 0,
    overwrite: bool = False,
) -> CellSet:
    """Render bright-field imaging-flow cells of eight kinds into the CellSet ``out``.

    A cell's pixels depend on the settings, the seed and its number only, never on ``jobs`` or how many follow. The
    field of view is constant: another ``size`` shows the same cell finer or coarser.

    Args:
        classes: the kinds to show; all eight when None. One left out is a novelty.
        composition: None for every kind equally often; else as :func:`parse_composition` returns it.
        patients: how many patients the cells come from, in turn; patients are spread over ``batches``.
        difficulty: 0 to 1; how far the kinds overlap.
        jobs: threads; 0 takes one a core.

    Raises:
        InputError: when a setting is out of range, or ``out`` exists already and ``overwrite`` is false.
    """
    settings = SimulateSettings.parse(
        {
            "cells": cells, "size": size, "bit_depth": bit_depth, "classes": tuple(classes or KINDS),
            "composition": composition if composition is None or isinstance(composition, str) else dict(composition),
            "patients": patients, "batches": batches, "difficulty": difficulty, "seed": seed,
        },
        where="simulate",
    )  # fmt: skip
    simulation = Simulation(settings)
    dtype = np.dtype(np.uint8 if bit_depth <= 8 else np.uint16)
    with whole_folder(out, overwrite=overwrite) as folder:
        with (
            CellSetWriter(folder, channels=("bright-field",), height=size, width=size, dtype=dtype) as writer,
            progress("simulating", cells) as advance,
        ):
            for pixels, rows in _in_order(simulation, jobs):
                writer.add(pixels, rows)
                advance(len(rows))
            writer.finish(
                packing={"simulator": settings.model_dump(mode="json")},
                bit_depth=bit_depth,
                pixel_size_um=FIELD_UM / size,
            )
    return CellSet.open(out)


class Simulation:
    """Plans and renders cells by their number, in any order."""

    def __init__(self, settings: SimulateSettings) -> None:
        self.settings = settings
        self.kinds = kinds_named(settings.classes)
        composition = settings.composition
        self.composition = parse_composition(composition) if isinstance(composition, str) else composition

    @cached_property
    def patients(self) -> list[Patient]:
        """The patients, with the true proportions that their cells are drawn from."""
        even = {kind.name: 1.0 for kind in self.kinds}
        rngs = [np.random.default_rng((self.settings.seed, 1, number)) for number in range(self.settings.patients)]
        return [draw_patient(even if self.composition is None else self.composition, rng) for rng in rngs]

    @cached_property
    def donors(self) -> list[Donor]:
        """What all cells of a patient share, with the shifts of the patient's batch."""
        return [
            _draw_donor(self.settings.seed, number, number % self.settings.batches)
            for number in range(self.settings.patients)
        ]

    def render(self, numbers: Sequence[int]) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Pixels ``(n, 1, size, size)`` and table rows of the cells of these numbers."""
        size = self.settings.size
        cells, kinds, noise = [], [], np.empty((len(numbers), size, size), np.float32)
        for place, number in enumerate(numbers):
            rng = np.random.Generator(np.random.Philox(key=np.array([self.settings.seed, number], np.uint64)))
            kind, patient = self._kind_and_patient(number, rng.random())
            cells.append(draw_traits(kind, self.donors[patient], self.settings.difficulty, rng))
            kinds.append((kind.name, patient))
            noise[place] = rng.standard_normal((size, size), np.float32)
        pixels = exposed(bright_field(cells, size), cells, noise, self.settings.bit_depth)[:, None]
        rows = [
            self._row(number, image, kind, patient, cell)
            for number, image, (kind, patient), cell in zip(numbers, pixels, kinds, cells, strict=True)
        ]
        return pixels, rows

    def _kind_and_patient(self, number: int, uniform: float) -> tuple[Kind, int]:
        """Balanced sets take kinds in turn and then patients in turn; else the patient's proportions decide."""
        if self.composition is None:
            turn, kind = divmod(number, len(self.kinds))
            return self.kinds[kind], turn % self.settings.patients
        patient = number % self.settings.patients
        shares = np.cumsum([self.patients[patient].proportions[kind.name] for kind in self.kinds])
        return self.kinds[int(np.searchsorted(shares / shares[-1], uniform, side="right"))], patient

    def _row(self, number: int, pixels: np.ndarray, kind: str, patient: int, cell: Traits) -> dict[str, Any]:
        name, batch = f"P{patient + 1:03d}", f"B{patient % self.settings.batches + 1}"
        return {
            "cell_id": cell_id(pixels, "simulated", number),
            "source": "simulated",
            "label": kind,
            "patient": name,
            "slide": f"{name}-{batch}",
            "batch": batch,
            "patient_type": "balanced" if self.composition is None else self.patients[patient].patient_type,
            **{latent: getattr(cell, latent) for latent in _LATENTS},
        }


def _draw_donor(seed: int, patient: int, batch: int) -> Donor:
    own = np.random.default_rng((seed, 2, patient)).standard_normal(3)
    lamp = np.random.default_rng((seed, 3, batch)).standard_normal(8)
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
    )


def _in_order(simulation: Simulation, jobs: int) -> Iterator[tuple[np.ndarray, list[dict[str, Any]]]]:
    """Render all cells in chunks, a few chunks ahead. NumPy and the FFT release the lock, so threads suffice."""
    count = simulation.settings.cells
    workers = jobs or len(os.sched_getaffinity(0))
    waiting: deque[Future[tuple[np.ndarray, list[dict[str, Any]]]]] = deque()
    _ = simulation.patients, simulation.donors
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, count, _CHUNK):
            waiting.append(pool.submit(simulation.render, range(start, min(start + _CHUNK, count))))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
