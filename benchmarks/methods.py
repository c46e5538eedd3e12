"""What each pre-training method costs: cells a second and memory, at the settings of one recipe.

    python benchmarks/methods.py [--recipe recipes/methods-cpu.yaml] [--cells 512] [--epochs 2] [--turns 2]

Every method is trained by itself, in a process of its own, on the same simulated cells; nothing is watched and nothing
judged. Time is that of a longer run less that of a run of one epoch, by the epochs between them, so that start-up and
the making of the bundle do not count; the median of the turns. ``times moco`` compares the time of an epoch with
MoCo's. Memory is the peak of the process, torch and all. Accuracy at the same settings is what the recipe itself
measures.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.study.recipe import read_recipe

_CHILD = """
import json, resource, sys, time
from pathlib import Path
from leukoscope.cells.cellset import CellSet
from leukoscope.methods.pretrain import pretrain
from leukoscope.methods.pretrain_settings import PretrainSettings
cells, out, settings = CellSet.open(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
start = time.perf_counter()
pretrain([cells], out, settings=PretrainSettings.parse(settings, "recipe"))
mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": time.perf_counter() - start, "mib": mib}))
"""


def run(cells: CellSet, folder: Path, settings: dict[str, Any], epochs: int) -> dict[str, float]:
    """Seconds and peak memory of one pre-training in a process of its own."""
    train = {**settings["train"], "epochs": epochs, "monitor_cells": 0, "collapse_steps": 0}
    text = json.dumps({**settings, "train": train})
    with tempfile.TemporaryDirectory(dir=folder) as out:
        words = [sys.executable, "-c", _CHILD, str(cells.path), str(Path(out) / "run"), text]
        answer = subprocess.run(words, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return found


def measure(cells: CellSet, folder: Path, settings: dict[str, Any], epochs: int) -> tuple[float, float]:
    """Seconds an epoch of ``cells``, and the peak memory in MiB."""
    short, long = (run(cells, folder, settings, count) for count in (1, 1 + epochs))
    return (long["seconds"] - short["seconds"]) / epochs, long["mib"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of each pre-training method.")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/methods-cpu.yaml"))
    parser.add_argument("--cells", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=2, help="epochs that are timed")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="encoders of the recipe")
    options = parser.parse_args()
    plans = {name: plan.pretrain for name, plan in read_recipe(options.recipe).encoders.items() if plan.pretrain}
    names = options.only or list(plans)
    with tempfile.TemporaryDirectory() as folder:
        cells = simulate(Path(folder) / "cells.set", cells=options.cells, size=92, seed=0)
        turns = [
            {name: measure(cells, Path(folder), plans[name] or {}, options.epochs) for name in names}
            for _ in range(options.turns)
        ]
    for name in names:
        seconds = statistics.median(turn[name][0] for turn in turns)
        row = {"method": name, "cells/s": round(options.cells / seconds, 1)}
        if "moco" in names:
            row["times moco"] = round(statistics.median(turn[name][0] / turn["moco"][0] for turn in turns), 2)
        row["peak MiB"] = round(max(turn[name][1] for turn in turns))
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
