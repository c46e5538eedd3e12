import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from leukoscope.common.errors import InputError
from leukoscope.encoders.timminfo import config_of

_OFFSET = "offset.weight"


class FoldedStem(nn.Module):
    """A first convolution with a normalisation folded into its weights, exact up to the border.

    Folding ``x' = a * x + b`` into a convolution turns ``b`` into a bias, but only where the kernel lies inside the
    image: the border that the convolution pads with zeros means "the mean" for the normalised ``x'``, and gets no
    ``b``. Convolving a plane of ones with the offset weights gives the right bias at every position; it costs one
    channel of one image a batch.
    """

    def __init__(self, conv: nn.Conv2d, offset: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, C, H, W)``."""
        ones = torch.ones_like(x[:1, :1])
        y: Tensor = self.conv(x) + self.offset(ones)
        return y


def adapt_stem(
    backbone: nn.Module,
    channels: int,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> None:
    """Change the stem of an RGB-pretrained timm ``backbone`` in place to take ``channels`` channels.

    - One channel: the weights are summed over RGB, which is the same as feeding the grey image three times.
    - Three channels: unchanged, they are taken for red, green and blue.
    - Any other number: each normalised channel takes the place of one normalised colour, in turn, scaled by
      ``3 / channels`` to keep the magnitude (timm's rule). Channels stay apart; there is nothing to be exact to.

    ``mean`` and ``std``, one value a channel, say how the input will be normalised. Where, for one or three channels,
    that differs from how the weights were trained (``backbone.pretrained_cfg``), the difference is folded into weights
    and bias. Without them the input is taken to be normalised as the weights expect.

    Raises:
        InputError: when the stem is no plain convolution.
    """
    name = stem_name(backbone)
    conv = backbone.get_submodule(name)
    if not isinstance(conv, nn.Conv2d) or conv.in_channels != 3 or "Std" in type(conv).__name__:
        raise InputError(f"{_architecture(backbone)}: its stem is no plain convolution of RGB; choose another backbone")
    if channels not in (1, 3):
        weight = torch.stack([conv.weight[:, j % 3] for j in range(channels)], dim=1) * (3 / channels)
        backbone.set_submodule(name, _with_weight(conv, weight))
        return
    scale, shift = _renormalisation(backbone, channels, mean, std)
    weight = conv.weight * scale[:, None, None]
    offset = (conv.weight * shift[:, None, None]).sum(dim=1, keepdim=True)
    if channels == 1:
        weight = weight.sum(dim=1, keepdim=True)
    backbone.set_submodule(name, _fold(_with_weight(conv, weight), offset))


def match_stem(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give ``backbone`` a folded stem where ``tensors``, the weights to be loaded into it, hold one."""
    name = stem_name(backbone)
    if f"{name}.{_OFFSET}" in tensors:
        conv = backbone.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        backbone.set_submodule(name, FoldedStem(conv, _offset_of(conv, conv.weight[:, :1])))
    elif f"{name}.bias" in tensors:
        conv = backbone.get_submodule(name)
        if isinstance(conv, nn.Conv2d) and conv.bias is None:
            conv.bias = nn.Parameter(torch.zeros(conv.out_channels))


def with_ones_channel(tensors: Mapping[str, Tensor], name: str, *, biased: bool) -> dict[str, Tensor] | None:
    """``tensors`` for a network whose images have one more channel, 1 everywhere; None where that is not needed.

    What is folded into the stem ``name`` becomes the weights of that channel: a convolution that pads it with zeros has
    the right border, and needs no :class:`FoldedStem`. So does a bias, where timm's own stem is not ``biased``.
    """
    changed = dict(tensors)
    if f"{name}.{_OFFSET}" in changed:
        offset, weight = changed.pop(f"{name}.{_OFFSET}"), changed.pop(f"{name}.conv.weight")
        if f"{name}.conv.bias" in changed:
            changed[f"{name}.bias"] = changed.pop(f"{name}.conv.bias")
    elif f"{name}.bias" in changed and not biased:
        weight, bias = changed[f"{name}.weight"], changed.pop(f"{name}.bias")
        offset = torch.zeros_like(weight[:, :1])
        offset[:, 0, 0, 0] = bias
    else:
        return None
    changed[f"{name}.weight"] = torch.cat([weight, offset], dim=1)
    return changed


def stem_name(backbone: nn.Module) -> str:
    """The name of the first convolution of a timm backbone.

    Raises:
        InputError: when the backbone has none, or several.
    """
    name = config_of(backbone).get("first_conv")
    if not isinstance(name, str):
        raise InputError(f"{_architecture(backbone)}: timm names no single first convolution; choose another backbone")
    return name


def _renormalisation(
    backbone: nn.Module, channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Tensor, Tensor]:
    """Scale and shift ``(3,)`` that turn the given normalisation into the one the weights were trained with."""
    config = config_of(backbone)
    trained_mean, trained_std = (torch.tensor(config[key], dtype=torch.float64) for key in ("mean", "std"))
    given_mean = trained_mean if mean is None else torch.tensor(mean, dtype=torch.float64)
    given_std = trained_std if std is None else torch.tensor(std, dtype=torch.float64)
    if channels == 1 and mean is None:
        # "As the weights expect" is, for one grey channel, the mean of what they expect of the three colours.
        given_mean = trained_mean.mean()
    if channels == 1 and std is None:
        given_std = trained_std.mean()
    scale = (given_std / trained_std).expand(3)
    shift = ((given_mean - trained_mean) / trained_std).expand(3)
    return scale.float(), shift.float()


def _fold(conv: nn.Conv2d, offset: Tensor) -> nn.Module:
    if not offset.any():
        return conv
    if _pads(conv):
        return FoldedStem(conv, _offset_of(conv, offset))
    bias = offset.sum(dim=(1, 2, 3)).detach()
    conv.bias = nn.Parameter(bias if conv.bias is None else conv.bias.detach() + bias)
    return conv


def _pads(conv: nn.Conv2d) -> bool:
    """Whether the convolution pads; those of TensorFlow's "same" kind do so without saying."""
    return type(conv) is not nn.Conv2d or conv.padding not in ((0, 0), "valid")


def _offset_of(conv: nn.Conv2d, weight: Tensor) -> nn.Conv2d:
    offset = _with_weight(conv, weight)
    offset.bias = None
    return offset


def _with_weight(conv: nn.Conv2d, weight: Tensor) -> nn.Conv2d:
    """A convolution like ``conv``, of the same class and padding, with other weights and input channels."""
    changed = copy.deepcopy(conv)
    changed.in_channels = weight.shape[1]
    changed.weight = nn.Parameter(weight.detach().clone())
    return changed


def _architecture(backbone: nn.Module) -> str:
    return str(config_of(backbone).get("architecture", type(backbone).__name__))
