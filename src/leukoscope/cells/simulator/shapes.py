from collections.abc import Sequence

import numpy as np

from leukoscope.cells.simulator.traits import CHROMATIN_CLUMPS, HARMONICS, MAX_GRANULES, MAX_LOBES, Traits

FIELD_UM = 28.0
WAVELENGTH_UM = 0.53
Array = np.ndarray


def column(cells: Sequence[Traits], name: str) -> Array:
    """One trait of a batch of cells, as float32 ``(B, 1, 1)``."""
    return np.array([getattr(cell, name) for cell in cells], np.float32)[:, None, None]


def phase_maps(cells: Sequence[Traits], grid: int) -> tuple[Array, Array, Array]:
    """Draw what the light passes on its way through each cell.

    Returns:
        The phase delay in radians of cell body and nucleus ``(B, grid, grid)`` float32; the granules and the chromatin
        clumps as points on the same grid, each point with its peak phase, to be given their width in Fourier space.
    """
    x, y = _own_coordinates(cells, grid)
    body = _body(cells, x, y) + _debris(cells, grid)
    nucleus = _nucleus(cells, x, y)
    scale = np.float32(2 * np.pi / WAVELENGTH_UM)
    phase = scale * (column(cells, "cytoplasm_index") * body + column(cells, "nucleus_index") * nucleus)
    return phase, _granules(cells, grid), _chromatin(cells, grid)


def _own_coordinates(cells: Sequence[Traits], grid: int) -> tuple[Array, Array]:
    """Micrometres from the cell's centre along its long and short axis, ``(B, grid, grid)`` each."""
    axis = ((np.arange(grid, dtype=np.float32) + 0.5) / grid - 0.5) * np.float32(FIELD_UM)
    x = axis[None, None, :] - column(cells, "x_um")
    y = axis[None, :, None] - column(cells, "y_um")
    cosine, sine = np.cos(column(cells, "angle")), np.sin(column(cells, "angle"))
    stretch = np.sqrt(column(cells, "elongation"))
    return (x * cosine + y * sine) / stretch, (y * cosine - x * sine) * stretch


def _body(cells: Sequence[Traits], x: Array, y: Array) -> Array:
    """Thickness in micrometres of a sphere whose outline is perturbed by a few harmonics."""
    radius = column(cells, "diameter_um") / 2
    r2 = x * x + y * y
    inverse = 1 / np.sqrt(r2 + np.float32(1e-4))
    turn = np.empty(x.shape, np.complex64)
    np.multiply(x, inverse, out=turn.real)
    np.multiply(y, inverse, out=turn.imag)
    # The harmonics 2, 3, ... of the angle are powers of its unit vector: Horner's rule sums them.
    weights = np.array([cell.shape @ (1, -1j) for cell in cells], np.complex64)[:, :, None, None]
    wave = weights[:, HARMONICS - 1] / HARMONICS * turn
    for order in range(HARMONICS - 2, -1, -1):
        wave += weights[:, order] / (order + 1)
        wave *= turn
    wave *= turn
    outline = np.maximum(1 + column(cells, "roughness") * wave.real, 0.5)
    inside = np.clip(1 - r2 / (radius * outline) ** 2, 0, 1)
    thickness: Array = 2 * radius * np.sqrt(inside)
    return thickness


def _debris(cells: Sequence[Traits], grid: int) -> Array:
    """Thickness in micrometres of a fragment beside some of the cells."""
    thickness = np.zeros((len(cells), grid, grid), np.float32)
    axis = ((np.arange(grid, dtype=np.float32) + 0.5) / grid - 0.5) * np.float32(FIELD_UM)
    for number, cell in enumerate(cells):
        if cell.debris_um > 0:
            away = cell.diameter_um / 2 + (1 + 2 * cell.places[-1, 1]) * cell.debris_um
            angle = 2 * np.pi * cell.places[-1, 2]
            x, y = cell.x_um + away * np.cos(angle), cell.y_um + away * np.sin(angle)
            r2 = (axis[None, :] - x) ** 2 + (axis[:, None] - y) ** 2
            thickness[number] = np.sqrt(np.clip(cell.debris_um**2 - 4 * r2, 0, None))
    return thickness


def _nucleus(cells: Sequence[Traits], x: Array, y: Array) -> Array:
    """Thickness in micrometres of the nucleus: one sphere, or lobes along an arc inside the cell."""
    thickness = np.zeros_like(x)
    centres = [lobe_centres(cell) for cell in cells]
    for lobe in range(max(len(centre) for centre in centres)):
        place = np.array([centre[lobe] if lobe < len(centre) else (0, 0, 0) for centre in centres], np.float32)
        cx, cy, radius = (place[:, part, None, None] for part in range(3))
        inside = np.clip(1 - ((x - cx) ** 2 + (y - cy) ** 2) / np.maximum(radius, 1e-3) ** 2, 0, 1)
        np.maximum(thickness, 2 * radius * np.sqrt(inside), out=thickness)
    return thickness


def lobe_centres(cell: Traits) -> list[tuple[float, float, float]]:
    """Centre and radius in micrometres of each lobe of the nucleus, in the cell's own axes.

    The lobes keep the nucleus' area whatever their number.
    """
    reach = cell.diameter_um / 2
    nucleus = reach * cell.nucleus_ratio
    jitter = cell.places[-2 - MAX_LOBES : -2]
    if cell.lobes == 1:
        off = reach - nucleus
        return [(0.5 * off * (2 * jitter[0, 0] - 1), 0.5 * off * (2 * jitter[0, 1] - 1), nucleus)]
    radius = nucleus / np.sqrt(cell.lobes) * 1.12
    arc = min(1.15 * cell.lobes, 5.2) * (0.8 + 0.4 * cell.places[-2, 0])
    far = min(cell.lobe_spread * nucleus * 0.8, reach - radius)
    centres = []
    for lobe in range(cell.lobes):
        angle = arc * (lobe / (cell.lobes - 1) - 0.5) + 0.35 * (jitter[lobe, 0] - 0.5)
        distance = far * (0.85 + 0.3 * jitter[lobe, 1])
        centres.append((distance * np.cos(angle), distance * np.sin(angle), radius * (0.88 + 0.24 * jitter[lobe, 2])))
    return centres


def _granules(cells: Sequence[Traits], grid: int) -> Array:
    points = np.zeros((len(cells), grid * grid), np.float32)
    for number, cell in enumerate(cells):
        u = cell.places[: cell.granules]
        # Uniform in the volume of a sphere, seen from above.
        distance = 0.94 * cell.diameter_um / 2 * np.sqrt(1 - (1 - u[:, 0]) ** (2 / 3))
        weight = cell.granule_phase * (0.5 + u[:, 2])
        _splat(points[number], cell, distance, 2 * np.pi * u[:, 1], weight, grid)
    return points.reshape(-1, grid, grid)


def _chromatin(cells: Sequence[Traits], grid: int) -> Array:
    points = np.zeros((len(cells), grid * grid), np.float32)
    for number, cell in enumerate(cells):
        u = cell.places[MAX_GRANULES : MAX_GRANULES + CHROMATIN_CLUMPS]
        lobes = np.array(lobe_centres(cell))
        mine = lobes[(np.arange(CHROMATIN_CLUMPS) * len(lobes)) // CHROMATIN_CLUMPS]
        distance, angle = mine[:, 2] * np.sqrt(u[:, 0]), 2 * np.pi * u[:, 1]
        x, y = mine[:, 0] + distance * np.cos(angle), mine[:, 1] + distance * np.sin(angle)
        _splat(points[number], cell, np.hypot(x, y), np.arctan2(y, x), cell.chromatin_phase * (2 * u[:, 2] - 0.7), grid)
    return points.reshape(-1, grid, grid)


def _splat(points: Array, cell: Traits, distance: Array, angle: Array, weight: Array, grid: int) -> None:
    """Add points, given in the cell's own axes, to a flat grid; each is shared by its four nearest pixels."""
    stretch = np.sqrt(cell.elongation)
    own_x, own_y = distance * np.cos(angle) * stretch, distance * np.sin(angle) / stretch
    x = own_x * np.cos(cell.angle) - own_y * np.sin(cell.angle) + cell.x_um
    y = own_x * np.sin(cell.angle) + own_y * np.cos(cell.angle) + cell.y_um
    column, row = ((place / FIELD_UM + 0.5) * grid - 0.5 for place in (x, y))
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (row - top)) * np.abs(1 - right - (column - left))
            flat = (top + down) % grid * grid + (left + right) % grid
            points += np.bincount(flat, share * weight, minlength=grid * grid).astype(np.float32)
