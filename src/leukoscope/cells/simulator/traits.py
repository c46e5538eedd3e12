from dataclasses import dataclass

import numpy as np

from leukoscope.cells.simulator.kinds import Kind

MAX_LOBES = 5
MAX_GRANULES = 160
CHROMATIN_CLUMPS = 90
HARMONICS = 5
LARGEST_UM = 22.0  # what stays in the field of view off its centre
PLACES = MAX_GRANULES + CHROMATIN_CLUMPS + MAX_LOBES + 2
_NORMALS = 24


@dataclass(frozen=True)
class Donor:
    """Factors that all cells of one patient share, and those of the batch in which the patient was measured."""

    size: float = 1.0
    granularity: float = 1.0
    index: float = 1.0
    focus_um: float = 0.0
    brightness: float = 1.0
    slope: tuple[float, float] = (0.0, 0.0)
    vignetting: float = 0.0
    blur: float = 0.2
    noise: float = 1.0
    columns: int = 0  # seed of the camera's fixed pattern


@dataclass(frozen=True)
class Traits:
    """Everything that one cell's image is rendered from; lengths in micrometres, angles and phases in radians."""

    diameter_um: float
    elongation: float
    roughness: float
    nucleus_ratio: float
    lobes: int
    lobe_spread: float
    granules: int
    granule_um: float
    granule_phase: float
    chromatin_phase: float
    cytoplasm_index: float
    nucleus_index: float
    defocus_um: float
    x_um: float
    y_um: float
    angle: float
    debris_um: float  # 0 for none
    shape: np.ndarray  # (HARMONICS, 2) cosine and sine of the outline
    places: np.ndarray  # (PLACES, 3) uniforms of the granules, the clumps, the lobes, and two more
    donor: Donor


def draw_traits(kind: Kind, donor: Donor, difficulty: float, rng: np.random.Generator) -> Traits:
    """Draw one cell of ``kind``. The number of draws is fixed, so that a cell does not depend on its kind's values.

    ``difficulty`` from 0 to 1 widens the spread of the traits, so that kinds overlap, and of focus.
    """
    z = rng.standard_normal(_NORMALS)
    shape = rng.standard_normal((HARMONICS, 2))
    places = rng.random((PLACES, 3))
    width = 0.4 + 1.2 * difficulty
    near = kind.spread * width

    def around(mean: float, number: int, times: float = 1.0) -> float:
        return float(mean * np.exp(times * near * z[number]))

    granules = around(kind.granules, 5, 3.0) * donor.granularity
    return Traits(
        diameter_um=min(around(kind.diameter_um, 0) * donor.size, LARGEST_UM),
        elongation=1.0 + (kind.elongation - 1.0) * float(np.exp(0.7 * z[1])),
        roughness=around(kind.roughness, 2, 3.0),
        nucleus_ratio=min(around(kind.nucleus_ratio, 3, 0.8), 0.92),
        lobes=int(np.clip(np.rint(kind.lobes + 0.9 * width * z[4] * (kind.lobes > 1)), 1, MAX_LOBES)),
        lobe_spread=min(around(kind.lobe_spread, 6, 2.0), 1.1),
        granules=int(np.clip(np.rint(granules), 0, MAX_GRANULES)),
        granule_um=around(kind.granule_um, 7, 1.5),
        granule_phase=around(kind.granule_phase, 8, 2.0) * donor.granularity,
        chromatin_phase=around(kind.chromatin_phase, 9, 2.0),
        cytoplasm_index=around(kind.cytoplasm_index, 10) * donor.index,
        nucleus_index=around(kind.nucleus_index, 11, 2.0) * donor.index,
        defocus_um=1.6 + donor.focus_um + 0.8 * width * float(z[12]),
        x_um=float(np.clip(1.2 * z[13], -2.5, 2.5)),
        y_um=float(np.clip(1.2 * z[14], -2.5, 2.5)),
        angle=float(2 * np.pi * places[-1, 0]),
        debris_um=1.6 * float(np.exp(0.4 * z[15])) if z[16] > 1.4 else 0.0,
        shape=shape,
        places=places,
        donor=donor,
    )
