"""Views of a batch: ours against kornia and torchvision v2, the same operations, in one run.

    .venv/bin/python benchmarks/views.py [--threads 2] [--cells 64]

Every library makes both views of every cell, from 8-bit pixels to float32 of 64 px, with parameters drawn per cell.
kornia works on the batch, torchvision image by image, as their users do. Both resample twice (turn, then resize with
antialiasing) where the policy zooms; where it does not, they resize first, which is cheaper. Times are medians of
rounds in which all take turns, so that whatever else the machine does hits all alike; the processor's own time beside
them hardly feels it.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import kornia.augmentation as K
import torch
from kornia.morphology import erosion
from torch import Tensor, nn
from torchvision.transforms import v2

from leukoscope.cells.intensity import Intensity
from leukoscope.views.augment import Augment
from leukoscope.views.policy import Policy

SIZE = 64
STAINED = {
    "rotation": {"degrees": 180},
    "flip": {"horizontal": 0.5, "vertical": 0.5},
    "shift": {"share": 0.2},
    "zoom": {"field": [0.5, 1.05]},
    "blur": {"p": 0.3, "sigma": [0.1, 1.0]},
    "contrast": {"factor": [0.8, 1.2]},
    "brightness": {"factor": [0.8, 1.2]},
}
FLOW = {
    "rotation": {"degrees": 180},
    "flip": {"horizontal": 0.5, "vertical": 0.5},
    "erosion": {"p": 0.5, "width": [3]},
    "blur": {"p": 0.5, "sigma": [0.1, 2.0]},
}
CASES = {"stained 160 px RGB": (STAINED, 3, 160), "ifc 200 px grey": (FLOW, 1, 200)}


class ErodeSome(nn.Module):
    """Erosion of half the images; kornia and torchvision have no random one."""

    def forward(self, images: Tensor) -> Tensor:
        """Intensities ``(B, C, H, W)`` to the same."""
        chosen = torch.rand(len(images)) < 0.5
        images[chosen] = erosion(images[chosen], torch.ones(3, 3))
        return images


def kornia_views(operations: dict) -> nn.Module:
    flips = (K.RandomHorizontalFlip(p=0.5), K.RandomVerticalFlip(p=0.5))
    resize = K.Resize((SIZE, SIZE), antialias=True)
    if "zoom" in operations:
        return nn.Sequential(
            K.RandomAffine(180.0, translate=(0.2, 0.2), scale=(1 / 1.05, 2.0), padding_mode="reflection", p=1.0),
            *flips,
            resize,
            K.RandomGaussianBlur((9, 9), (0.1, 1.0), p=0.3),
            K.RandomContrast((0.8, 1.2), p=1.0),
            K.RandomBrightness((0.8, 1.2), p=1.0),
        )
    turn = K.RandomAffine(180.0, padding_mode="reflection", p=1.0)
    return nn.Sequential(resize, turn, *flips, ErodeSome(), K.RandomGaussianBlur((17, 17), (0.1, 2.0), p=0.5))


def torchvision_views(operations: dict) -> v2.Transform:
    flips = (v2.RandomHorizontalFlip(), v2.RandomVerticalFlip())
    resize = v2.Resize((SIZE, SIZE), antialias=True)
    bilinear = v2.InterpolationMode.BILINEAR
    to_float = v2.ToDtype(torch.float32, scale=True)
    if "zoom" in operations:
        return v2.Compose(
            [
                v2.RandomAffine(180, translate=(0.2, 0.2), scale=(1 / 1.05, 2.0), interpolation=bilinear),
                *flips,
                resize,
                v2.RandomApply([v2.GaussianBlur(9, (0.1, 1.0))], p=0.3),
                v2.ColorJitter(brightness=0.2, contrast=0.2),
                to_float,
            ]
        )
    erode = v2.Lambda(lambda image: -torch.max_pool2d(-image.float(), 3, 1, 1))
    blur = v2.RandomApply([v2.GaussianBlur(17, (0.1, 2.0))], p=0.5)
    turn = v2.RandomRotation(180, interpolation=bilinear)
    return v2.Compose([resize, turn, *flips, to_float, v2.RandomApply([erode], p=0.5), blur])


def contenders(operations: dict, pixels: Tensor) -> dict[str, Callable[[int], object]]:
    policy = Policy.parse({"views": [operations]}, where="benchmark")
    ours = Augment(policy, SIZE, Intensity.of_bit_depth(8, pixels.shape[1]), seed=0)
    batched, single = kornia_views(operations), torchvision_views(operations)
    cells = torch.arange(len(pixels))
    return {
        "leukoscope": lambda epoch: ours(pixels, cells, epoch),
        "kornia": lambda _: [batched(pixels.float() / 255) for _ in range(2)],
        "torchvision v2": lambda _: [torch.stack([single(image) for image in pixels]) for _ in range(2)],
    }


def bound(operations: dict, channels: int, side: int) -> tuple[float, float]:
    """Million multiply-adds, and MB moved, that both views of a cell need at the least."""
    # An antialiasing triangle has 2 side / level taps, along rows and then along columns of a level of 91 px.
    level = 91 if "zoom" in operations else SIZE
    resize = 2 * side * (side + level)
    blur = operations["blur"]["p"] * 2 * SIZE * SIZE * 9
    macs = 2 * channels * (resize + 4 * SIZE * SIZE + blur)
    moved = 2 * channels * (side * side + 4 * SIZE * SIZE)
    return macs / 1e6, moved / 1e6


def machine() -> tuple[float, float]:
    """What this machine does now: billion multiply-adds a second (in matrix products), and GB/s copied."""
    a = torch.rand(768, 768)
    b = torch.rand(32_000_000)
    c = torch.empty_like(b)
    return 768**3 / 1e9 / seconds(lambda: a @ a), 2 * b.nbytes / 1e9 / seconds(lambda: c.copy_(b))


def seconds(work: Callable[[], object], repeats: int = 7) -> float:
    return statistics.median(spent(work)[0] for _ in range(repeats))


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and seconds of processor in all threads."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def measure(made: dict[str, Callable[[int], object]], cells: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds a cell of each library: by the clock, and of processor."""
    rounds: dict[str, list[tuple[float, float]]] = {library: [] for library in made}
    for repeat in range(repeats + 1):
        for library, make in made.items():
            times = spent(lambda make=make, repeat=repeat: make(repeat))
            if repeat:  # the first round warms up
                rounds[library].append(times)
    return {
        library: (1e3 * statistics.median(clock) / cells, 1e3 * statistics.median(processor) / cells)
        for library, (clock, processor) in ((library, zip(*times, strict=True)) for library, times in rounds.items())
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rate, bandwidth = machine()
    print(
        f"{options.threads} threads, {options.cells} cells, two views of {SIZE} px, medians of {options.repeats} rounds"
    )
    print(f"{'cells':<20}{'library':<16}{'ms a cell':>10}{'ratio':>7}{'processor ms':>14}{'ratio':>7}")
    for name, (operations, channels, side) in CASES.items():
        pixels = torch.randint(0, 256, (options.cells, channels, side, side), dtype=torch.uint8)
        medians = measure(contenders(operations, pixels), options.cells, options.repeats)
        ours = medians["leukoscope"]
        for library, (clock, processor) in medians.items():
            ratios = f"{clock:>10.3f}{clock / ours[0]:>7.1f}{processor:>14.3f}{processor / ours[1]:>7.1f}"
            print(f"{name:<20}{library:<16}{ratios}")
        macs, moved = bound(operations, channels, side)
        print(
            f"{'':<20}at the least {macs:.2f} M multiply-adds and {moved:.2f} MB a cell: "
            f"{macs / rate:.3f} ms at {rate:.0f} G/s, {moved / bandwidth:.3f} ms at {bandwidth:.0f} GB/s"
        )


if __name__ == "__main__":
    main()
