import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam, LayerGradientXActivation
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.device import pick_device
from leukoscope.encoders.readout import Readout
from leukoscope.encoders.timminfo import layers_of
from leukoscope.explain.inputs import prepared

# A map of 2x2 says nothing of where: small images are explained at an earlier stage, of at least this side.
_SMALLEST_MAP = 4


def grad_cam(
    encoder: Encoder,
    cellset: CellSet,
    rows: np.ndarray,
    head: nn.Module,
    targets: np.ndarray | None = None,
    *,
    stages: int = 1,
    device: str = "auto",
    batch: int = 32,
) -> np.ndarray:
    """Where in each cell the evidence for a class lies: heat ``(n, H, W)`` float32 in [0, 1], at the cells' own size.

    Convolutional encoders: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2) on the last stage
    whose map is at least 4x4. Transformers: gradient times activation of the patch tokens that enter the last block,
    summed over channels (HiResCAM, Draelos and Carin 2020, arXiv:2011.08891), because the class token alone leaves
    that block and the tokens after it get no gradient. Each cell is divided by its own maximum; heat that is 0
    everywhere means that nothing spoke for the class.

    Args:
        encoder: the frozen encoder.
        cellset: the cells.
        rows: which cells ``(n,)``, as row numbers of ``cellset``.
        head: what turns features ``(B, D)`` into logits ``(B, K)``, linear or MLP, in evaluation mode.
        targets: the class ``(n,)`` to explain each cell for; the predicted one if None.
        stages: how many stages the features that ``head`` takes were read from.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        batch: cells a step.
    """
    place = pick_device(device)
    model = nn.Sequential(_Reader(encoder.backbone, Readout(stages=stages)), head.to(place)).eval()
    heat = np.zeros((len(rows), cellset.info.height, cellset.info.width), np.float32)
    for chosen, x in prepared(encoder, cellset, rows, device=device, batch=batch):
        with torch.no_grad():
            target = model(x).argmax(1) if targets is None else torch.as_tensor(targets[chosen], device=place)
        maps = _maps(encoder.backbone, model, x, target)
        full = LayerAttribution.interpolate(maps, heat.shape[1:], "bilinear")[:, 0]
        heat[chosen] = _to_unit(full).cpu().numpy()
    return heat


class _Reader(nn.Module):
    """Features as they were read, for what attributes to modules."""

    def __init__(self, backbone: nn.Module, readout: Readout) -> None:
        super().__init__()
        self.backbone, self.readout = backbone, readout

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.backbone, x)


def _maps(backbone: nn.Module, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """Non-negative evidence ``(B, 1, h, w)``."""
    layer = explained_layer(backbone, x[:1])
    # The frozen weights need no gradient, so the input must: otherwise there is no graph to the layer.
    x = x.detach().requires_grad_(True)
    if _gives_maps(backbone):
        found: Tensor = LayerGradCam(model, layer).attribute(x, target=target, relu_attributions=True)
        return found.detach()
    product: Tensor = LayerGradientXActivation(model, layer).attribute(x, target=target).detach().sum(-1)
    if product.ndim == 2:
        patches = product[:, int(getattr(backbone, "num_prefix_tokens", 0)) :]
        side = round(patches.shape[1] ** 0.5)
        product = patches.reshape(len(x), side, side)
    return product.relu()[:, None]


def explained_layer(backbone: nn.Module, x: Tensor) -> nn.Module:
    """The module of a timm backbone whose output is explained, for input like ``x`` ``(1, C, H, W)``."""
    blocks = getattr(backbone, "blocks", None)
    if hasattr(backbone, "num_prefix_tokens") and isinstance(blocks, nn.Sequential):
        first: nn.Module = blocks[-1].norm1  # type: ignore[assignment]
        return first
    stages = layers_of(backbone)
    fine_enough = [stage for stage in stages if x.shape[-1] // stage["reduction"] >= _SMALLEST_MAP]
    stage = fine_enough[-1] if fine_enough else stages[0]
    return backbone.get_submodule(stage["module"])


def _gives_maps(backbone: nn.Module) -> bool:
    """Whether the layers give ``(B, C, h, w)``, as convolutions do; tokens and windows have channels last."""
    return not hasattr(backbone, "num_prefix_tokens") and getattr(backbone, "output_fmt", "NCHW") == "NCHW"


def _to_unit(heat: Tensor) -> Tensor:
    top = heat.amax((1, 2), keepdim=True)
    return torch.where(top > 0, heat / top.clamp_min(torch.finfo(heat.dtype).tiny), 0.0)
