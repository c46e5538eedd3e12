import os
import subprocess
import sys

import numpy as np
import pytest

from leukoscope.explain.map2d import CellMap, TsneMap, UmapMap, umap_map

RANDOM = np.random.default_rng(0)
CENTRES = RANDOM.normal(size=(3, 16)) * 4
KIND = np.arange(120) % 3
X = (CENTRES[KIND] + RANDOM.normal(size=(120, 16))).astype(np.float32)


def nearest_kind(points: np.ndarray, to: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    return kinds[((points[:, None] - to[None]) ** 2).sum(-1).argmin(1)]


def test_umap_parts_kinds_places_new_cells_and_follows_the_seed() -> None:
    """One test: compiling UMAP takes most of its time."""
    fitted = UmapMap(X[:90], 3)
    assert_finds_kinds(fitted)
    assert np.array_equal(fitted.points, umap_map(X[:90], 3))
    assert not np.array_equal(fitted.points, umap_map(X[:90], 4))
    assert umap_map(X[:5], 0).shape == (5, 2)


def test_tsne_parts_kinds_places_new_cells_and_follows_the_seed() -> None:
    fitted = TsneMap(X[:90], 3)
    assert_finds_kinds(fitted)
    assert np.array_equal(fitted.points, TsneMap(X[:90], 3).points)


def assert_finds_kinds(fitted: CellMap) -> None:
    assert fitted.points.shape == (90, 2)
    assert fitted.points.dtype == np.float32
    placed = fitted.place(X[90:])
    assert placed.shape == (30, 2)
    assert (nearest_kind(placed, fitted.points, KIND[:90]) == KIND[90:]).mean() > 0.95


def test_a_cell_lands_in_the_same_place_whatever_it_comes_with() -> None:
    fitted = TsneMap(X[:90], 0)
    np.testing.assert_allclose(fitted.place(X[90:])[:1], fitted.place(X[90:91]), atol=1e-2)


def test_few_cells() -> None:
    assert TsneMap(X[:5], 0).points.shape == (5, 2)
    with pytest.raises(ValueError, match="at least 4 cells, got 3"):
        umap_map(X[:3], 0)


def test_a_map_leaves_torch_its_threads() -> None:
    """In a process of its own: what numba does to OpenMP it does once."""
    code = (
        "import numpy as np, torch\n"
        "from leukoscope.explain.map2d import umap_map\n"
        "umap_map(np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32), 0)\n"
        "print(torch.get_num_threads())\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split()[-1] == "1"
