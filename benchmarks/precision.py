"""bfloat16 autocast against float32, in training and embedding: `python benchmarks/precision.py [--device cpu]`.

For every network a step of training (forward and backward) and a forward pass alone, in both precisions in turns, on
channels-last batches in memory; medians, as ratios of images a second. Above 1 bfloat16 is faster.
"""

import argparse
import statistics
import time

import torch
from torch import nn

from leukoscope.encoders.backbone import create_backbone

NETWORKS = {"resnet18": 64, "resnet50": 96, "vit_tiny_patch16_224": 112, "tf_efficientnet_lite0": 64}
BATCH = 64


def seconds(network: nn.Module, x: torch.Tensor, *, half: bool, train: bool) -> float:
    """One step of training, or one forward pass."""
    network.train(train)
    start = time.perf_counter()
    with torch.set_grad_enabled(train):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            y = network(x)
        if train:
            y.float().square().mean().backward()  # type: ignore[no-untyped-call]
            network.zero_grad()
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Print a line a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    print(f"{given.device}, {torch.get_num_threads()} threads, batches of {BATCH}")
    for name, size in NETWORKS.items():
        network = create_backbone(name, channels=3, seed=0, size=size)
        network = network.to(given.device, memory_format=torch.channels_last)
        x = torch.randn(BATCH, 3, size, size).to(given.device, memory_format=torch.channels_last)
        ratios = []
        for train in (True, False):
            taken = [
                [seconds(network, x, half=half, train=train) for half in (False, True)] for _ in range(given.turns + 1)
            ]
            full, half = (statistics.median(times) for times in zip(*taken[1:], strict=True))
            ratios.append(full / half)
        print(f"{name:<24} {size} px  training {ratios[0]:.2f}, forward {ratios[1]:.2f}", flush=True)


if __name__ == "__main__":
    main()
