import numpy as np
import torch
from torch import Tensor

from leukoscope.common.errors import InputError
from leukoscope.encoders.device import pick_device
from leukoscope.probes.head import Data, Fitted, Job, Probe
from leukoscope.probes.linear import LinearHead, LinearProbe
from leukoscope.probes.mlp import MLPHead, MLPProbe
from leukoscope.probes.nested import TrainingSet, inner_folds


def fit_linear(
    x: np.ndarray,
    y: np.ndarray,
    *,
    n_classes: int | None = None,
    blocks: np.ndarray | None = None,
    probe: LinearProbe | None = None,
    device: str = "auto",
    n_inner: int = 5,
) -> LinearHead:
    """One linear head fitted on all cells, its penalty chosen by inner folds. Arguments as :func:`fit_head`."""
    head = fit_head(
        probe or LinearProbe(), x, y, n_classes=n_classes, blocks=blocks, device=device, n_inner=n_inner
    ).head
    assert isinstance(head, LinearHead)
    return head


def fit_mlp(
    x: np.ndarray,
    y: np.ndarray,
    *,
    n_classes: int | None = None,
    blocks: np.ndarray | None = None,
    probe: MLPProbe | None = None,
    seed: int = 0,
    device: str = "auto",
    n_inner: int = 5,
) -> MLPHead:
    """One MLP head fitted on all cells, its learning rate chosen by inner folds. Arguments as :func:`fit_head`."""
    head = fit_head(
        probe or MLPProbe(), x, y, n_classes=n_classes, blocks=blocks, seed=seed, device=device, n_inner=n_inner
    ).head
    assert isinstance(head, MLPHead)
    return head


def fit_head(
    probe: Probe,
    x: np.ndarray,
    y: np.ndarray,
    *,
    n_classes: int | None = None,
    blocks: np.ndarray | None = None,
    seed: int = 0,
    device: str = "auto",
    n_inner: int = 5,
) -> Fitted:
    """Fit one head on all cells given, with what was chosen for it.

    Args:
        probe: how, of :func:`~leukoscope.probes.registry.head_of`.
        x: features ``(N, D)`` float32.
        y: classes ``(N,)`` int64 in 0..K-1.
        n_classes: K; as many as ``y`` holds where not given.
        blocks: ``(N,)``, of :func:`~leukoscope.cells.blocks.blocks_of`: cells of one block stay in one inner fold.
        seed: of the inner folds and of what the head draws.
        device: where it is fitted; the head stays there.
        n_inner: how many inner folds.

    Raises:
        InputError: when features are not finite or there are fewer than two classes.
    """
    if len(np.unique(y)) < 2:
        raise InputError("labels: fewer than two classes; a head needs at least two to tell apart")
    if not np.isfinite(x).all():
        raise InputError("features: not all finite; did the encoder's pre-training diverge?")
    place = pick_device(device)
    rows = np.arange(len(x))
    inner = inner_folds(rows, y, rows if blocks is None else blocks, n_inner, seed)
    data = Data(_on(x, np.float32, place), _on(y, np.int64, place), n_classes or int(y.max()) + 1)
    return probe.fit(data, [Job(TrainingSet(rows, inner), seed)])[0]


def _on(values: np.ndarray, dtype: type, place: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=dtype)).to(place)
