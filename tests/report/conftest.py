from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.folds import make_folds
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.common.runs import run_folder
from leukoscope.scores import predictions
from leukoscope.scores.confusion import confusion
from leukoscope.scores.significance import compare
from leukoscope.scores.summary import summarise

CLASSES = ("BAS", "EOS", "LYM", "MON", "NEU")
# Head start of the true class in logits: the higher, the better the pair.
PAIRS = {
    ("moco", "linear"): 3.0,
    ("moco", "mlp"): 3.2,
    ("random", "linear"): 1.2,
    ("supervised", "resnet18"): 2.6,
}


@pytest.fixture(scope="session")
def make_cells(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., CellSet]:
    """Bright discs on a dark ground: ``make_cells(channels, dtype, bit_depth)``; 12 bits in 16 look black to PIL."""

    def make(channels: int = 1, dtype: str = "uint8", bit_depth: int = 8, n: int = 150, side: int = 40) -> CellSet:
        rng = np.random.default_rng(channels)
        folder = tmp_path_factory.mktemp("cells")
        names = [f"ch{i}" for i in range(channels)]
        writer = CellSetWriter(folder, channels=names, height=side, width=side, dtype=np.dtype(dtype))
        y, x = np.mgrid[:side, :side] - (side - 1) / 2
        for i in range(n):
            label = i % len(CLASSES) if i < 0.9 * n else 4
            disc = 0.15 + 0.7 * (np.hypot(x, y) < 5 + 2 * label)
            shaded = disc * np.linspace(1.0, 0.6, channels)[:, None, None] + rng.normal(0, 0.02, (channels, side, side))
            pixels = (shaded.clip(0, 1) * (2**bit_depth - 1)).astype(dtype)
            row = {"cell_id": cell_id(pixels, f"{i}.png"), "source": f"{i}.png", "label": CLASSES[label]}
            writer.add(pixels[None], [row | {"patient": f"P{i % 7}", "batch": "AB"[i % 2]}])
        writer.finish(packing={"rule": "none"}, bit_depth=bit_depth, pixel_size_um=0.5)
        return CellSet.open(folder)

    return make


@pytest.fixture(scope="session")
def cellset(make_cells: Callable[..., CellSet]) -> CellSet:
    return make_cells(channels=2, dtype="uint16", bit_depth=12)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Write a whole run folder of an evaluation of ``cellset``, scored by the real scores, as evaluate leaves it."""

    def make(out: Path, cellset: CellSet, classes: Sequence[str] = CLASSES, group: str | None = None) -> Path:
        labels = cellset.cells["label"].to_numpy(dtype=object)
        folds = make_folds(cellset.cells, labels, n_folds=5, group=group)
        table = _predictions(cellset, labels, folds, classes)
        summary = summarise(table, n_bootstrap=100)
        settings = {"label": "label", "group": group, "n_folds": 5, "repeats": 1}
        with run_folder(out, verb="evaluate", settings=settings, seed=0) as run:
            predictions.write(run.path / "predictions.parquet", table)
            folds.to_parquet(run.path / "folds.parquet")
            (run.path / "tables").mkdir()
            summary.per_class.to_csv(run.path / "tables" / "per_class.csv", index=False)
            run.fingerprint("pixels", cellset.pixels_fingerprint)
            run.finish(
                {
                    "task": "label",
                    "classes": list(classes),
                    "n": len(cellset),
                    "folds": {"n_folds": 5, "repeats": 1, "group": group},
                    "scores": summary.scores,
                    "confusion": confusion(table),
                    "significance": compare(summary.scores, folds),
                }
            )
        return out

    return make


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, cellset: CellSet, make_run: Callable[..., Path]) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "evaluation", cellset)


def _predictions(cellset: CellSet, labels: np.ndarray, folds: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    tests = folds[folds["role"] == "test"].set_index("cell_id")["fold"].reindex(cellset.ids).to_numpy()
    truth = pd.Index(classes).get_indexer(labels)
    rng = np.random.default_rng(0)
    parts = []
    for (encoder, head), start in PAIRS.items():
        logits = 1.4 * rng.normal(size=(len(labels), len(classes))) + start * np.eye(len(classes))[truth]
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for fold in range(5):
            at = tests == fold
            parts.append(
                predictions.predictions(
                    cellset.ids[at], labels[at], shares[at], classes, encoder=encoder, head=head, fold=fold
                )
            )
    return pd.concat(parts, ignore_index=True)
