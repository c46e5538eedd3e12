"""Convolutions on small maps as matrix products, against torch's: `python benchmarks/smallmaps.py`.

Two channels-last ResNet-18 of the same weights on the same batches in memory, forward and backward, in turns; medians
of several repeats, as ratios. One is timm's as it comes, the other has its small maps sped up. Then the convolutions of
the last stage alone, with the arithmetic they do at the speed of a large matrix product beside them.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn

from leukoscope.encoders.smallmaps import SmallMapConv2d, speed_up_small_maps


def seconds(ways: list[Callable[[], None]], repeats: int) -> list[float]:
    """Median seconds of each way, the ways in turns."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats + 1):
        for way, of_way in zip(ways, times, strict=True):
            start = time.perf_counter()
            way()
            of_way.append(time.perf_counter() - start)
    return [statistics.median(of_way[1:]) for of_way in times]  # the first round warms up


def product_speed() -> float:
    """Floating-point operations a second of a large matrix product."""
    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / seconds([lambda: torch.mm(a, a)], 5)[0]


def step(network: nn.Module, x: Tensor, *, train: bool) -> Callable[[], None]:
    """Forward and backward, or forward alone."""

    def backward() -> None:
        network(x).sum().backward()
        network.zero_grad()

    @torch.no_grad()
    def forward() -> None:
        network(x)

    return backward if train else forward


def compare(name: str, plain: nn.Module, x: Tensor, repeats: int, bound: float | None = None) -> None:
    """Print a line for training and one for inference."""
    plain = plain.to(memory_format=torch.channels_last)
    ours = SmallMapConv2d.of(plain) if isinstance(plain, nn.Conv2d) else speed_up_small_maps(timm_twin(plain))
    for train in (True, False):
        if isinstance(plain, nn.Conv2d):
            x = x.detach().requires_grad_(train)
        theirs_s, ours_s = seconds([step(each, x, train=train) for each in (plain, ours)], repeats)
        what = "forward and backward" if train else "forward"
        least = "" if bound is None else f"   arithmetic {bound * (3 if train else 1) * 1e3:6.1f} ms"
        ratio = theirs_s / ours_s
        print(f"{name:34} {what:21} torch {theirs_s * 1e3:7.1f} ms   ours {ours_s * 1e3:7.1f} ms   {ratio:.2f}{least}")


def timm_twin(plain: nn.Module) -> nn.Module:
    """Another ResNet-18 with the weights of ``plain``."""
    twin = timm.create_model("resnet18", num_classes=0).to(memory_format=torch.channels_last)
    twin.load_state_dict(plain.state_dict())
    return twin


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128])
    given = parser.parse_args()
    speed = product_speed()
    print(f"{torch.get_num_threads()} threads, {speed / 1e9:.0f} GFLOP/s in a large product")
    for batch in given.batches:
        for size in (64, 128):
            x = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
            network = timm.create_model("resnet18", num_classes=0)
            compare(f"ResNet-18, {batch} x {size} px", network, x, given.repeats)
        for channels, side, stride in ((256, 4, 2), (512, 2, 1)):
            x = torch.randn(batch, channels, side, side).contiguous(memory_format=torch.channels_last)
            conv = nn.Conv2d(channels, 512, 3, stride=stride, padding=1, bias=False)
            operations = 2 * batch * 2 * 2 * 9 * channels * 512
            compare(f"3x3 conv {channels} to 512, {batch} x {side} px", conv, x, given.repeats, operations / speed)


if __name__ == "__main__":
    main()
