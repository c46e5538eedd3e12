from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from leukoscope.cells.cellset import CellSet
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.maps import as_maps
from leukoscope.explain.gradcam import explained_layer
from leukoscope.explain.inputs import prepared

_COMPONENTS = 3


@dataclass(frozen=True)
class PatchColours:
    """Patches by their first three principal components: ``colours`` float32 ``(n, h, w, 3)`` in [0, 1].

    ``shares`` ``(3,)`` are the parts of the variance that red, green and blue show. ``foreground`` ``(n, h, w)`` is
    true where there are colours; the rest is white.
    """

    colours: np.ndarray
    shares: np.ndarray
    foreground: np.ndarray


def patch_tokens(
    encoder: Encoder, cellset: CellSet, rows: np.ndarray, *, device: str = "auto", batch: int = 32
) -> np.ndarray:
    """What the encoder makes of each place in the cells ``rows``: float32 ``(n, h, w, C)``.

    A transformer's patch tokens after its last norm; of a convolutional or windowed network the last maps of at least
    4x4, the same that Grad-CAM explains. Arguments as :func:`~leukoscope.explain.gradcam.grad_cam`.
    """
    parts = [_tokens(encoder, x) for _, x in prepared(encoder, cellset, rows, device=device, batch=batch)]
    return np.concatenate(parts)


def patch_colours(
    tokens: np.ndarray, *, foreground: bool = False, percentiles: tuple[float, float] = (1.0, 99.0)
) -> PatchColours:
    """Colour patches by three principal components of all of them together, so that a colour means one thing.

    One PCA over the patches of all cells (DinoBloom, Koch et al. 2024, arXiv:2404.05022, figure 3). The sign of a
    component is free; it is chosen so that the middle of the images is higher than their border.

    Args:
        tokens: features of patches ``(n, h, w, C)``.
        foreground: keep only the patches with a positive first component and colour them by a second PCA among
            themselves (DINOv2, Oquab et al. 2023, arXiv:2304.07193, section 7.5).
        percentiles: of each component, which become 0 and 1.

    Raises:
        ValueError: with fewer than three patches or features.
    """
    n, h, w, _ = tokens.shape
    flat = tokens.reshape(n * h * w, -1).astype(np.float64)
    distance = np.tile(_distance_from_middle(h, w).ravel(), n)
    kept = np.ones(len(flat), dtype=bool)
    if foreground:
        first, _ = _components(flat, distance)
        positive = first[:, 0] > 0
        kept = positive if positive.sum() > _COMPONENTS else kept
    scores, shares = _components(flat[kept], distance[kept])
    low, high = np.percentile(scores, percentiles, axis=0)
    span = np.where(high > low, high - low, 1.0)
    colours = np.ones((len(flat), _COMPONENTS), np.float32)
    colours[kept] = np.where(high > low, (scores - low) / span, 0.5).clip(0, 1)
    return PatchColours(colours.reshape(n, h, w, _COMPONENTS), shares, kept.reshape(n, h, w))


@torch.inference_mode()
def _tokens(encoder: Encoder, x: Tensor) -> np.ndarray:
    if hasattr(encoder.backbone, "num_prefix_tokens"):
        maps = encoder.maps(x)
    else:
        seen: list[Tensor] = []
        layer = explained_layer(encoder.backbone, x[:1])
        hook = layer.register_forward_hook(lambda _module, _input, output: seen.append(output))
        try:
            encoder.backbone(x)
        finally:
            hook.remove()
        maps = as_maps(encoder.backbone, seen[0].float())
    tokens: np.ndarray = maps.permute(0, 2, 3, 1).cpu().numpy()
    return tokens


def _components(x: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``(m, 3)`` of three principal components and their shares of the variance."""
    pca = PCA(_COMPONENTS, svd_solver="covariance_eigh" if len(x) > x.shape[1] else "full")
    with np.errstate(invalid="ignore"):  # patches that are all alike have no variance to share
        scores = pca.fit_transform(x)
    outwards = (scores * (distance - distance.mean())[:, None]).sum(axis=0)
    facing: np.ndarray = scores * np.where(outwards > 0, -1.0, 1.0)
    return facing, np.nan_to_num(pca.explained_variance_ratio_)


def _distance_from_middle(h: int, w: int) -> np.ndarray:
    y, x = np.mgrid[:h, :w]
    distance: np.ndarray = np.hypot((y - (h - 1) / 2) / h, (x - (w - 1) / 2) / w)
    return distance
