"""Embedding from a CellSet against a timm + DataLoader loop over image files: `python benchmarks/embedding.py`.

Same backbone, size, batch, precision and threads; one run, the ways in turn, medians of several repeats as ratios. The
loop gets its best worker count, and runs once in our memory layout and once as it comes. The bound is our model (its
batch norms folded, as embed does) on a batch in memory: no way of reading can be quicker. Cells are those of `pbc`
where they are, else simulated.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.pack import pack
from leukoscope.cells.simulate import simulate
from leukoscope.common.files import shared_data
from leukoscope.encoders.bundle import random_encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.folding import fold_norms


class Files(Dataset):
    """Image files as RGB tensors, read the way the usual loop reads them."""

    def __init__(self, folder: Path, size: int) -> None:
        self.paths = sorted(folder.iterdir())
        steps = [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def make_files(folder: Path, count: int) -> None:
    """Image files in one folder: JPEG of `pbc`, or PNG of simulated cells stored as RGB, as the paper does."""
    folder.mkdir()
    real = shared_data()
    if real is not None:
        found = sorted((real / "pbc").rglob("*.jpg"))
        for path in found[:: max(len(found) // count, 1)][:count]:
            (folder / path.name).write_bytes(path.read_bytes())
        return
    cells = simulate(folder.parent / "simulated.set", cells=count)
    for i in range(count):
        Image.fromarray(cells.read([i])[0, 0]).convert("RGB").save(folder / f"{i}.png")


@torch.inference_mode()
def run_loop(
    model: torch.nn.Module, folder: Path, size: int, batch: int, workers: int, layout: torch.memory_format
) -> None:
    for x in DataLoader(Files(folder, size), batch_size=batch, num_workers=workers):
        model(x.contiguous(memory_format=layout))


@torch.inference_mode()
def run_bound(model: torch.nn.Module, x: torch.Tensor, count: int) -> None:
    for start in range(0, count, len(x)):
        model(x[: min(len(x), count - start)])


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in [("cells", 1024), ("size", 64), ("batch", 128), ("repeats", 5), ("threads", 0)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--backbone", default="resnet18")
    given = parser.parse_args()
    torch.set_num_threads(given.threads or len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "files"
        make_files(folder, given.cells)
        pack(folder, Path(temporary) / "cells.set")
        compare(CellSet.open(Path(temporary) / "cells.set"), folder, given)


def compare(cellset: CellSet, folder: Path, given: argparse.Namespace) -> None:
    encoder = random_encoder(given.backbone, cellset, given.size)
    size, batch, cores = given.size, given.batch, len(os.sched_getaffinity(0))
    x = encoder.prepare(torch.from_numpy(cellset.read(slice(0, batch))))
    model = timm.create_model(given.backbone, num_classes=0).eval()
    same_layout = timm.create_model(given.backbone, num_classes=0).eval().to(memory_format=torch.channels_last)
    plain, last = torch.contiguous_format, torch.channels_last
    trials = {n: seconds(lambda n=n: run_loop(model, folder, size, batch, n, plain)) for n in range(cores + 1)}
    workers = min(trials, key=trials.__getitem__)
    ways = {
        "ours": lambda: embed(cellset, encoder, batch=batch, device="cpu", precision="fp32"),
        "bound": lambda: run_bound(folded, x, len(cellset)),
        "same layout": lambda: run_loop(same_layout, folder, size, batch, workers, last),
        "as it comes": lambda: run_loop(model, folder, size, batch, workers, plain),
    }
    folded = fold_norms(encoder.to(torch.device("cpu")).backbone)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.repeats):
        for name, work in ways.items():
            times[name].append(seconds(work))
    middle = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"{given.backbone}, {size} px, batch {batch}, {len(cellset)} cells, {torch.get_num_threads()} threads, float32"
    )
    print(f"cells/s: ours {len(cellset) / middle['ours']:.0f}, bound {len(cellset) / middle['bound']:.0f}")
    print(f"share of the bound (model on a batch in memory):        {middle['bound'] / middle['ours']:.2f}")
    print(f"against timm + DataLoader ({workers} workers), same layout: {middle['same layout'] / middle['ours']:.2f} x")
    print(f"against timm + DataLoader ({workers} workers), as it comes: {middle['as it comes'] / middle['ours']:.2f} x")


if __name__ == "__main__":
    main()
