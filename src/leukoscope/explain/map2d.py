import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Protocol

import numpy as np


class CellMap(Protocol):
    """A fitted two-dimensional map of cells."""

    points: np.ndarray
    """Where the cells that it was fitted on lie, float32 ``(N, 2)``."""

    def place(self, x: np.ndarray) -> np.ndarray:
        """Where new cells with features ``x`` ``(M, D)`` lie in the same map, float32 ``(M, 2)``."""
        ...


class UmapMap:
    """UMAP (McInnes et al. 2018, arXiv:1802.03426) by cosine distance: the overview of one set of cells.

    Args:
        x: features ``(N, D)``, at least 4 cells.
        seed: the same seed gives the same map; that is why it runs on one thread.
        neighbours: cells that each one is laid out against; few show detail, many the whole.
        min_dist: how close points may lie.
    """

    def __init__(self, x: np.ndarray, seed: int, *, neighbours: int = 15, min_dist: float = 0.1) -> None:
        _require_cells(x)
        self._model: Any = _compiled_once().UMAP(
            n_neighbors=min(neighbours, len(x) - 1),
            min_dist=min_dist,
            metric="cosine",
            random_state=seed,
            transform_seed=seed,
            n_jobs=1,
            # The spectral start needs more cells than eigenvectors.
            init="spectral" if len(x) > 10 else "random",
        )
        with _threads_kept():
            self.points: np.ndarray = self._model.fit_transform(x).astype(np.float32)

    def place(self, x: np.ndarray) -> np.ndarray:
        """See :meth:`CellMap.place`; the new cells are laid out together, so they also push each other a little."""
        with _threads_kept():
            placed: np.ndarray = self._model.transform(x).astype(np.float32)
        return placed


class TsneMap:
    """t-SNE of openTSNE (Poličar et al. 2019) by cosine distance: the map that new samples are laid into.

    New cells are placed one by one against the fitted ones, which stay where they are, so a cell lands in the same
    place whatever it comes with.

    Args:
        x: features ``(N, D)``, at least 4 cells.
        seed: the same seed gives the same map.
        perplexity: the effective number of neighbours; lowered where cells are few.
    """

    def __init__(self, x: np.ndarray, seed: int, *, perplexity: float = 30.0) -> None:
        from openTSNE import TSNE

        _require_cells(x)
        model = TSNE(
            perplexity=min(perplexity, max((len(x) - 1) / 3, 1.0)),
            metric="cosine",
            initialization="pca",
            random_state=seed,
            n_jobs=1,
        )
        self._embedding: Any = model.fit(x)
        self.points = np.asarray(self._embedding, np.float32)

    def place(self, x: np.ndarray) -> np.ndarray:
        """See :meth:`CellMap.place`."""
        return np.asarray(self._embedding.transform(x), np.float32)


MAPS: dict[str, Callable[[np.ndarray, int], CellMap]] = {"umap": UmapMap, "tsne": TsneMap}


def umap_map(x: np.ndarray, seed: int) -> np.ndarray:
    """UMAP of features ``(N, D)`` as points float32 ``(N, 2)``; see :class:`UmapMap`."""
    return UmapMap(x, seed).points


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Leave torch the threads it has: numba sets those of OpenMP, which both use, to as many as there are cores."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _compiled_once() -> Any:
    """umap, with what numba compiles of it kept on disk; as it comes, every process compiles it anew."""
    import umap
    from numba.core.dispatcher import Dispatcher
    from numba.core.errors import NumbaWarning

    warnings.filterwarnings("ignore", "Cannot cache compiled function", NumbaWarning)
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("umap", "pynndescent")]
    functions = [each for module in modules for each in vars(module).values() if isinstance(each, Dispatcher)]
    # What is compiled for a distance function is of no use to another process, and would pile up.
    functions = [each for each in functions if "dist" not in each.py_func.__code__.co_varnames]
    with suppress(RuntimeError):  # where no place on disk can be written to
        for function in functions:
            function.enable_caching()
    return umap


def _require_cells(x: np.ndarray) -> None:
    if len(x) < 4:
        raise ValueError(f"a map needs at least 4 cells, got {len(x)}")
