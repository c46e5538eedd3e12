import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Up to so many pixels of output a matrix product is faster on a CPU; see benchmarks/smallmaps.py.
_PIXELS = 4


class SmallMapConv2d(nn.Conv2d):
    """A convolution that on a CPU makes maps of four pixels or fewer by one matrix product, channels last.

    Cells are small: at 64 px the last stage of a ResNet works on maps of 2x2 pixels, where the backward pass of
    the CPU's convolutions is several times slower than the product of the same numbers. Values, gradients and state
    are those of ``nn.Conv2d``, up to rounding; other maps and devices, and exported graphs take its way.

    In bfloat16 it mends a fault, too: where a kernel is larger than what it can see of so small a map (3x3 with stride
    2 on one pixel), torch 2.15's convolution on AVX512-BF16 leaves its weights' gradient unwritten, 1e30 or NaN.
    """

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "SmallMapConv2d":
        """The twin of ``conv``, with its own parameters."""
        twin = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            bias=conv.bias is not None,
            device="meta",
        )
        twin.weight, twin.bias = conv.weight, conv.bias
        return twin.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, O, h, w)`` of maps ``(B, C, H, W)``."""
        assert not isinstance(self.padding, str)
        sizes = zip(x.shape[2:], self.padding, self.kernel_size, self.stride, strict=True)
        h, w = ((size + 2 * pad - kernel) // stride + 1 for size, pad, kernel, stride in sizes)
        if x.device.type != "cpu" or h * w > _PIXELS or torch.compiler.is_exporting():
            return super().forward(x)
        (top, left), (down, right) = self.padding, self.stride
        x = F.pad(x, (left, left, top, top)).permute(0, 2, 3, 1)
        taps = [
            x[:, i : i + (h - 1) * down + 1 : down, j : j + (w - 1) * right + 1 : right]
            for i in range(self.kernel_size[0])
            for j in range(self.kernel_size[1])
        ]
        columns = torch.cat(taps, dim=3).flatten(0, 2)  # (B * h * w, kernel * kernel * C)
        y = F.linear(columns, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)
        return y.view(len(x), h, w, -1).permute(0, 3, 1, 2)


def speed_up_small_maps(network: nn.Module) -> nn.Module:
    """Replace the plain convolutions inside ``network`` by :class:`SmallMapConv2d`; returns ``network``."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Conv2d and _is_plain(child):
                setattr(parent, name, SmallMapConv2d.of(child))
    return network


def _is_plain(conv: nn.Conv2d) -> bool:
    numeric = not isinstance(conv.padding, str) and conv.padding_mode == "zeros"
    return numeric and conv.groups == 1 and conv.dilation == (1, 1)
