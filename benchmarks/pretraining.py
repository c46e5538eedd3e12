"""How fast pre-training goes from files on disk, against lightly's own MoCo v2 pipeline and against arithmetic.

    python benchmarks/pretraining.py --sizes 64          # about nine minutes on two cores
    python benchmarks/pretraining.py                     # 64, 128 and 224 px

Both train a ResNet-18 with MoCo v2 on the same cells: ours from a CellSet through batched views, lightly's from PNG
files through ``MoCoV2Transform``, ``LightlyDataset`` and a ``DataLoader`` with its best number of workers.
"equal" gives both the same step: RGB, float32, channels last, the same network, no split batch norm, views that change
colour; "equal, bf16" is the same under bfloat16 autocast, where this machine has it. "as it comes" takes each by its
defaults: ours with one grey channel, the policy ifc and the precision that ``auto`` picks, lightly's with RGB, float32
and its example's layout. "ceiling" is our own step on one batch of finished views in memory: what no data path can
exceed. Turns alternate, so that a busy machine slows all alike; ratios are medians over the turns.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import batch_shuffle, batch_unshuffle, deactivate_requires_grad, update_momentum
from lightly.transforms import MoCoV2Transform
from PIL import Image
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.pack import PackSettings, pack
from leukoscope.cells.simulate import simulate
from leukoscope.encoders.backbone import create_backbone
from leukoscope.encoders.device import autocast, pick_dtype
from leukoscope.methods.moco import MoCo, MoCoSettings
from leukoscope.training.method import Progress
from leukoscope.training.source import Batches
from leukoscope.views.augment import Augment
from leukoscope.views.policy import Policy
from leukoscope.views.preprocess import Preprocess

CPU = torch.device("cpu")
Turn = Callable[[int], float]
"""Seconds a batch, over so many batches."""


def write_files(folder: Path, cells: CellSet) -> None:
    """PNG files in RGB, tinted, so that three channels are packed as three."""
    (folder / "all").mkdir(parents=True)
    for number, pixels in enumerate(cells.read(slice(None))):
        tinted = pixels[0, :, :, None] * np.array([1.0, 0.95, 0.9])
        Image.fromarray(tinted.astype(np.uint8)).save(folder / "all" / f"{number:05d}.png")


class Ours:
    """Our loop's inner lines on a CellSet."""

    def __init__(self, cells: CellSet, size: int, batch: int, *, policy: str, groups: int, precision: str) -> None:
        self.precision = precision
        self.source = Batches([cells], batch, seed=0)
        half = (0.5,) * cells.channels
        self.prepare = Preprocess(size, cells.info.intensity, half, half)
        self.augment = Augment(Policy.load(policy), size, cells.info.intensity, 0)
        backbone = create_backbone("resnet18", channels=cells.channels, seed=0, size=size)
        self.method = MoCo(backbone, MoCoSettings(queue=4096, norm_groups=groups), cells=10**6, seed=0)
        self.method.to(memory_format=torch.channels_last)
        trained = [p for p in self.method.parameters() if p.requires_grad]
        self.sgd = torch.optim.SGD(trained, lr=0.03, momentum=0.9, weight_decay=1e-4)
        self.batches = self.forever()
        self.finished = self.views(next(self.batches))

    def forever(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Batches with their epoch, without end."""
        epoch = 0
        while True:
            for batch in self.source.epoch(epoch):
                yield epoch, batch.pixels, batch.cells
            epoch += 1

    def views(self, batch: tuple[int, Tensor, Tensor]) -> tuple[list[Tensor], Tensor]:
        """Finished views, as the loop makes them."""
        epoch, pixels, cells = batch
        made = [self.prepare.normalise(view) for view in self.augment(pixels, cells, epoch)]
        return [view.contiguous(memory_format=torch.channels_last) for view in made], cells

    def step(self, views: list[Tensor], cells: Tensor) -> None:
        """One optimiser step on finished views."""
        progress = Progress(0, 0, 1, 0)
        with autocast(CPU, self.precision, trained=self.method):
            loss, _ = self.method.loss(views, cells, progress)
        loss.backward()
        self.sgd.step()
        self.sgd.zero_grad()
        self.method.after_step(progress)

    def from_disk(self, count: int) -> float:
        """Seconds a batch from the files."""
        start = time.perf_counter()
        for _ in range(count):
            self.step(*self.views(next(self.batches)))
        return (time.perf_counter() - start) / count

    def in_memory(self, count: int) -> float:
        """Seconds a batch on the same finished views."""
        start = time.perf_counter()
        for _ in range(count):
            self.step(*self.finished)
        return (time.perf_counter() - start) / count


class Lightly:
    """lightly's MoCo example: its dataset, transform, head, loss and helpers."""

    def __init__(self, folder: Path, size: int, batch: int, *, channels_last: bool, precision: str) -> None:
        self.precision = precision
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        transform = MoCoV2Transform(input_size=size)
        self.data = LightlyDataset(str(folder), transform=transform)
        self.batch = batch
        self.encoder = create_backbone("resnet18", channels=3, seed=0, size=size)
        self.head = MoCoProjectionHead(512, 512, 128)
        self.encoder.to(memory_format=self.layout)
        self.key_encoder, self.key_head = copy.deepcopy(self.encoder), copy.deepcopy(self.head)
        deactivate_requires_grad(self.key_encoder)
        deactivate_requires_grad(self.key_head)
        self.criterion = NTXentLoss(temperature=0.07, memory_bank_size=(4096, 128))
        trained = [*self.encoder.parameters(), *self.head.parameters()]
        self.sgd = torch.optim.SGD(trained, lr=0.03, momentum=0.9, weight_decay=1e-4)

    def load(self, workers: int, count: int) -> torch.utils.data.DataLoader:
        """A loader of ``count`` batches, and as many before and after them as it makes ahead."""
        batches = count + 2 * self.ahead(workers)
        wanted = torch.utils.data.RandomSampler(self.data, replacement=True, num_samples=batches * self.batch)
        return torch.utils.data.DataLoader(
            self.data, self.batch, sampler=wanted, num_workers=workers, persistent_workers=workers > 0
        )

    @staticmethod
    def ahead(workers: int) -> int:
        """Batches that a ``DataLoader`` makes ahead, by its default of two a worker."""
        return 2 * workers

    def step(self, views: list[Tensor]) -> None:
        """One optimiser step, as in lightly's example."""
        query, key = (view.contiguous(memory_format=self.layout) for view in views)
        update_momentum(self.encoder, self.key_encoder, 0.999)
        update_momentum(self.head, self.key_head, 0.999)
        with autocast(CPU, self.precision):
            q = self.head(self.encoder(query))
            with torch.no_grad():
                shuffled, order = batch_shuffle(key)
                k = batch_unshuffle(self.key_head(self.key_encoder(shuffled)), order)
        self.criterion(q.float(), k.float()).backward()
        self.sgd.step()
        self.sgd.zero_grad()

    def from_disk(self, count: int) -> float:
        """Seconds a batch from the files, in the steady state.

        When the clock starts, the loader has as many batches ready as when it stops: what was made before is not
        timed, but neither is what it would have to make again. (Timing the last batches of a loader would give it those
        made ahead for nothing.) The rest is drained, so that no worker is busy in another's turn.
        """
        batches = iter(self.loader)
        for _ in range(self.ahead(self.loader.num_workers)):
            self.step(next(batches)[0])
        start = time.perf_counter()
        for _ in range(count):
            self.step(next(batches)[0])
        seconds = (time.perf_counter() - start) / count
        for _ in batches:
            pass
        return seconds

    def choose_workers(self, choices: tuple[int, ...], count: int) -> int:
        """Take the number of workers that serves best, each in its steady state."""
        trials = {}
        for workers in choices:
            self.loader = self.load(workers, count)
            trials[workers] = self.from_disk(count)
        best = min(trials, key=lambda workers: trials[workers])
        self.loader = self.load(best, count)
        return best


def operations(network: nn.Module, channels: int, size: int) -> float:
    """Floating-point operations a cell: three forward passes' worth for the query, one for the key."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.zeros(1, channels, size, size))
    return 4.0 * counter.get_total_flops()


def peak_flops() -> float:
    """What this machine multiplies in float32 a second, by one large product."""
    a = torch.rand(1536, 1536)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2 * 1536**3 / min(times)


def measure(folder: Path, size: int, batch: int, turns: int, count: int, cells: int) -> dict[str, float]:
    grey = simulate(folder / f"{size}.set", cells=cells, size=200, seed=0, overwrite=True)
    write_files(folder / f"{size}", grey)
    pack(folder / f"{size}", folder / f"{size}-rgb.set", settings=PackSettings(), jobs=2, overwrite=True)
    rgb = CellSet.open(folder / f"{size}-rgb.set")
    ours_equal = Ours(rgb, size, batch, policy="stained", groups=1, precision="fp32")
    ours = Ours(grey, size, batch, policy="ifc", groups=8, precision="auto")
    theirs_equal = Lightly(folder / f"{size}", size, batch, channels_last=True, precision="fp32")
    theirs = Lightly(folder / f"{size}", size, batch, channels_last=False, precision="fp32")
    workers = theirs_equal.choose_workers((0, 1, 2, 4), count)
    theirs.loader = theirs.load(workers, count)
    runs: dict[str, Turn] = {
        "ours equal": ours_equal.from_disk,
        "ceiling equal": ours_equal.in_memory,
        "lightly equal": theirs_equal.from_disk,
        "ours": ours.from_disk,
        "ceiling": ours.in_memory,
        "lightly": theirs.from_disk,
    }
    if halves := pick_dtype(CPU) == torch.bfloat16:
        ours_half = Ours(rgb, size, batch, policy="stained", groups=1, precision="bf16")
        theirs_half = Lightly(folder / f"{size}", size, batch, channels_last=True, precision="bf16")
        theirs_half.choose_workers((0, 1, 2, 4), count)
        runs |= {"ours equal, bf16": ours_half.from_disk, "lightly equal, bf16": theirs_half.from_disk}
    for run in runs.values():
        run(count)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            seconds[name].append(run(count))
    rate = {name: batch / statistics.median(times) for name, times in seconds.items()}

    def ratio(a: str, b: str) -> float:
        """How many times faster ``a`` is than ``b``, turn by turn."""
        return statistics.median(y / x for x, y in zip(seconds[a], seconds[b], strict=True))

    return {
        "size": size,
        **{f"{name} images/s": round(value, 1) for name, value in rate.items()},
        "bound images/s": round(peak_flops() / operations(ours.method.encoder.eval(), 1, size), 1),
        "lightly's workers": workers,
        "share of ceiling": round(ratio("ours", "ceiling"), 3),
        "share of ceiling, equal": round(ratio("ours equal", "ceiling equal"), 3),
        "times lightly, equal": round(ratio("ours equal", "lightly equal"), 2),
        **({"times lightly, bf16": round(ratio("ours equal, bf16", "lightly equal, bf16"), 2)} if halves else {}),
        "times lightly, as it comes": round(ratio("ours", "lightly"), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Pre-training throughput against lightly's MoCo v2.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 224])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--count", type=int, default=20, help="batches a turn")
    parser.add_argument("--cells", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            row = measure(Path(folder), size, options.batch, options.turns, options.count, options.cells)
            print(json.dumps(row, indent=2), flush=True)


if __name__ == "__main__":
    main()
