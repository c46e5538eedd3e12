import numpy as np
import pandas as pd

from leukoscope.cells.cellset import contents_of
from leukoscope.common.errors import InputError


def blocks_of(cells: pd.DataFrame, group: str | None = None) -> np.ndarray:
    """The number of the block of each cell ``(N,)`` int64: cells that share a content hash or a group, transitively.

    Raises:
        InputError: when the group column is missing.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    contents = pd.factorize(contents_of(cells))[0]
    if group is None:
        return contents.astype(np.int64)
    if group not in cells.columns:
        raise InputError(f"--group {group}: no such column in cells.parquet; it has {', '.join(cells.columns)}")
    groups, names = pd.factorize(cells[group])
    alone = groups < 0
    groups[alone] = len(names) + np.arange(alone.sum())
    # A graph between contents and groups, an edge a cell; its connected components are the blocks.
    n_contents, n_groups = contents.max(initial=-1) + 1, groups.max(initial=-1) + 1
    n_nodes = n_contents + n_groups
    edges = coo_array((np.ones(len(cells), np.int8), (contents, n_contents + groups)), shape=(n_nodes, n_nodes))
    return connected_components(edges, directed=False)[1][contents].astype(np.int64)
