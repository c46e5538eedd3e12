import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from leukoscope.views import colour, damage, grey
from leukoscope.views.geometry import between, chosen
from leukoscope.views.policy import Erase, Factor, Morphology, Noise, Operation, View
from leukoscope.views.random import Draws

# Streams of random numbers, one an operation; those of the moves come before (geometry.py).
(
    _EROSION,
    _DILATION,
    _BLUR,
    _HUE,
    _SATURATION,
    _GREY,
    _CONTRAST,
    _BRIGHTNESS,
    _GAIN,
    _GAMMA,
    _NOISE,
    _ERASE,
    _SOLARISE,
) = range(8, 21)


def apply(view: View, images: Tensor, draws: Draws) -> Tensor:
    """Do everything of ``view`` that follows the moves, each operation only to the views that drew it.

    Args:
        view: What to do, and how often.
        images: Intensities ``(R, C, H, W)`` in [0, 1]; they may be changed.
        draws: The random numbers of the R views; on the CPU, so that choosing views never waits for an accelerator.

    Returns:
        float32 ``(R, C, H, W)`` in [0, 1].
    """
    images = _morphology(images, view.erosion, draws, _EROSION, grey.erode)
    images = _morphology(images, view.dilation, draws, _DILATION, grey.dilate)
    if view.blur:
        images = _by_value(images, view.blur, view.blur.sigma, draws, _BLUR, grey.blur)
    if view.hue:
        images = _by_value(images, view.hue, (-view.hue.turn, view.hue.turn), draws, _HUE, colour.turn_hue)
    if view.saturation:
        images = _by_value(images, view.saturation, view.saturation.factor, draws, _SATURATION, colour.saturate)
    if view.grey:
        rows = _rows(chosen(view.grey.p, draws.uniform(_GREY, 1)[:, 0]))
        images = _on_rows(images, rows, colour.grey)
    images = _tone(images, view, draws)
    if view.gamma:
        images = _by_value(images, view.gamma, view.gamma.factor, draws, _GAMMA, grey.gamma)
    if view.solarise:
        rows = _rows(chosen(view.solarise.p, draws.uniform(_SOLARISE, 1)[:, 0]))
        images = _on_rows(images, rows, partial(grey.solarise, threshold=view.solarise.threshold))
    if view.noise:
        images = _noise(images, view.noise, draws)
    if view.erase:
        images = _erase(images, view.erase, draws)
    return images


def _by_value(
    images: Tensor,
    operation: Operation,
    limits: tuple[float, float],
    draws: Draws,
    kind: int,
    function: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    u = draws.uniform(kind, 2)
    rows = _rows(chosen(operation.p, u[:, 0]))
    values = between(*limits, u[rows, 1]).to(images.device)
    return _on_rows(images, rows, lambda some: function(some, values))


def _morphology(
    images: Tensor,
    operation: Morphology | None,
    draws: Draws,
    kind: int,
    function: Callable[..., Tensor],
) -> Tensor:
    if operation is None:
        return images
    u = draws.uniform(kind, 2)
    which = torch.where(chosen(operation.p, u[:, 0]), (u[:, 1] * len(operation.width)).long(), -1)
    for index, width in enumerate(operation.width):
        images = _on_rows(images, _rows(which == index), partial(function, width=width))
    return images


def _tone(images: Tensor, view: View, draws: Draws) -> Tensor:
    if not (view.contrast or view.brightness or view.gain):
        return images
    channels = images.shape[1]
    contrast = _factors(view.contrast, draws, _CONTRAST, 1, images.device)
    brightness = _factors(view.brightness, draws, _BRIGHTNESS, 1, images.device)
    return grey.tone(
        images,
        contrast=None if contrast is None else contrast[:, 0],
        brightness=None if brightness is None else brightness[:, 0],
        gain=_factors(view.gain, draws, _GAIN, channels, images.device),
    )


def _factors(operation: Factor | None, draws: Draws, kind: int, n: int, device: torch.device) -> Tensor | None:
    if operation is None:
        return None
    u = draws.uniform(kind, 1 + n)
    return torch.where(chosen(operation.p, u[:, :1]), between(*operation.factor, u[:, 1:]), 1.0).to(device)


def _noise(images: Tensor, operation: Noise, draws: Draws) -> Tensor:
    u = draws.uniform(_NOISE, 2)
    rows = _rows(chosen(operation.p, u[:, 0]))
    sd = between(*operation.sd, u[rows, 1]).to(images.device)
    normals = draws.normal(_NOISE, rows, images[0].numel(), images.device).reshape(-1, *images.shape[1:])
    return _on_rows(images, rows, lambda some: damage.add_noise(some, normals, sd))


def _erase(images: Tensor, operation: Erase, draws: Draws) -> Tensor:
    u = draws.uniform(_ERASE, 5)
    rows = _rows(chosen(operation.p, u[:, 0]))
    area = between(*operation.area, u[rows, 1])
    aspect = torch.exp(between(math.log(operation.aspect[0]), math.log(operation.aspect[1]), u[rows, 2]))
    limits = torch.tensor([images.shape[3], images.shape[2]])
    shape = torch.stack([torch.sqrt(area * aspect), torch.sqrt(area / aspect)], dim=1).clamp(max=1.0)
    sides = torch.round(shape * limits).clamp(min=1)
    corner = torch.floor(u[rows, 3:] * (limits - sides + 1))
    boxes = torch.cat([corner, corner + sides], dim=1).to(images.device)
    return _on_rows(images, rows, lambda some: damage.erase(some, boxes))


def _rows(mask: Tensor) -> Tensor:
    return mask.nonzero()[:, 0]


def _on_rows(images: Tensor, rows: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Replace the images at ``rows`` by what ``function`` makes of them; ``images`` may be changed."""
    if len(rows) == 0:
        return images
    if len(rows) == len(images):
        return function(images)
    rows = rows.to(images.device)
    return images.index_copy_(0, rows, function(images.index_select(0, rows)))
