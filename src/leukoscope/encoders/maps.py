import math

from torch import Tensor, nn


def as_maps(backbone: nn.Module, y: Tensor) -> Tensor:
    """Bring what a timm backbone's ``forward_features`` gave for square images to maps ``(B, C', h, w)``.

    Convolutions give maps already; transformers give tokens ``(B, T, C')``, class and register tokens first; those
    with windows give channels last, ``(B, h, w, C')``.
    """
    if y.ndim == 3:
        patches = y[:, int(getattr(backbone, "num_prefix_tokens", 0)) :]
        side = math.isqrt(patches.shape[1])
        return patches.transpose(1, 2).reshape(len(y), -1, side, side)
    if str(getattr(backbone, "output_fmt", "NCHW")).endswith("NHWC"):
        return y.permute(0, 3, 1, 2)
    return y
