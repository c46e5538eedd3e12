"""How hard the simulator's cells are, and how fast they are rendered.

    .venv/bin/python benchmarks/simulator.py [DIFFICULTY...]

Classifiers learn from seven patients and are scored on three others, at 64 px, for each difficulty (0, 0.5 and 1). The
forest on the ground truth (sizes, granules, focus, ... as drawn) is about the best that any method can reach; the
network is a small one, trained from scratch with rotations. About three minutes on two idle cores.
"""

import sys
import time
import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

from leukoscope.cells.simulate import LATENTS, SimulateSettings, Simulation

CELLS = 2400
TEST_PATIENTS = ("P001", "P002", "P003")
EPOCHS = 15


def rendered(**settings: float) -> tuple[np.ndarray, pd.DataFrame]:
    """Pixels ``(N, H, W)`` and table of simulated cells."""
    simulation = Simulation(SimulateSettings(**settings))
    chunks = [simulation.render(range(start, start + 8)) for start in range(0, simulation.settings.cells, 8)]
    return np.concatenate([pixels[:, 0] for pixels, _ in chunks]), pd.DataFrame(
        [row for _, rows in chunks for row in rows]
    )


def network_score(pixels: np.ndarray, classes: np.ndarray, test: np.ndarray) -> float:
    """Accuracy of a small convolutional network, trained with flips and quarter turns."""
    torch.manual_seed(0)
    widths = (1, 16, 32, 64, 96)
    layers: list[nn.Module] = []
    for inside, outside in pairwise(widths):
        layers += [nn.Conv2d(inside, outside, 3, 2, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
        layers += [nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 8))
    x, y = torch.from_numpy(pixels).float().div(255).sub(0.58).mul(12)[:, None], torch.from_numpy(classes)
    train = torch.from_numpy(np.flatnonzero(~test))
    steps = EPOCHS * (len(train) // 64)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    for _ in range(steps):
        chosen = train[torch.randint(len(train), (64,))]
        turned = torch.rot90(x[chosen], int(torch.randint(4, ())), (2, 3))
        turned = turned.flip(3) if torch.rand(()) < 0.5 else turned
        loss = nn.functional.cross_entropy(network(turned), y[chosen], label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        return float((network(x[test]).argmax(1) == y[test]).float().mean())


def main() -> None:
    """Print one line a difficulty, then the time a cell takes."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(2)
    print("difficulty  truth (forest)  size alone  raw pixels (logistic)  small network")
    for difficulty in map(float, sys.argv[1:] or (0.0, 0.5, 1.0)):
        pixels, table = rendered(cells=CELLS, size=64, difficulty=difficulty)
        classes = pd.factorize(table["label"])[0]
        test = table["patient"].isin(TEST_PATIENTS).to_numpy()
        truth = table[[name for name in LATENTS if name not in ("x_um", "y_um", "angle")]].to_numpy()
        flat = pixels.reshape(CELLS, -1).astype(np.float32)
        flat = (flat - flat[~test].mean(axis=0)) / flat[~test].std(axis=0)
        scores = [
            RandomForestClassifier(300, random_state=0)
            .fit(truth[~test], classes[~test])
            .score(truth[test], classes[test]),
            RandomForestClassifier(100, min_samples_leaf=8, random_state=0)
            .fit(truth[~test, :1], classes[~test])
            .score(truth[test, :1], classes[test]),
            LogisticRegression(C=1e-3, max_iter=150).fit(flat[~test], classes[~test]).score(flat[test], classes[test]),
            network_score(pixels, classes, test),
        ]
        print(
            f"{difficulty:10.1f}  {scores[0]:14.3f}  {scores[1]:10.3f}  {scores[2]:21.3f}  {scores[3]:13.3f}",
            flush=True,
        )
    start = time.process_time()
    rendered(cells=400, size=200)
    print(f"rendering at 200 px: {(time.process_time() - start) / 400 * 1e3:.1f} ms of processor time a cell")


if __name__ == "__main__":
    main()
