from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.folds import make_folds
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.common.runs import run_folder
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.features import Features
from leukoscope.report.explanation import explain
from leukoscope.report.page import write_report
from leukoscope.scores import predictions
from leukoscope.scores.few import few_label_scores
from leukoscope.scores.results import score_predictions

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

    def make(
        out: Path,
        cellset: CellSet,
        classes: Sequence[str] = CLASSES,
        group: str | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> Path:
        labels = cellset.cells["label"].to_numpy(dtype=object)
        folds = make_folds(cellset.cells, labels, n_folds=5, group=group)
        table = _predictions(cellset, labels, folds, classes)
        results = score_predictions(table, folds, task="leukocytes", groups=groups, n_bootstrap=100)
        settings = {"label": "label", "group": group, "n_folds": 5, "repeats": 1}
        told = {
            "method": "moco",
            "timm_name": "resnet18",
            "size": 40,
            "stages": 4,
            "flips": True,
            "encoder_fingerprint": "ab" * 32,
        }
        with run_folder(out, verb="evaluate", settings=settings, seed=0) as run:
            predictions.write(run.path / "predictions.parquet", table)
            folds.to_parquet(run.path / "folds.parquet")
            (run.path / "tables").mkdir()
            for name, frame in results.tables.items():
                frame.to_csv(run.path / "tables" / f"{name}.csv", index=False)
            run.fingerprint("moco.pixels", cellset.pixels_fingerprint)
            encoders = {
                "moco": told | {"seen_in_pretraining": "unknown"},
                "random": told | {"method": "random", "seen_in_pretraining": "none"},
            }
            few = few_label_scores(dict.fromkeys((10, 100), table[table["encoder"] == "moco"]), per_class=False)
            content = {**results.content, "group": group, "seeds": [0], "encoders": encoders, "notes": []}
            run.finish({**content, "few_labels": few})
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


@pytest.fixture(scope="session")
def grouped_run(tmp_path_factory: pytest.TempPathFactory, cellset: CellSet, make_run: Callable[..., Path]) -> Path:
    """A run whose classes were also scored as two groups."""
    groups = {"lymphoid": ["LYM"], "other": "*"}
    return make_run(tmp_path_factory.mktemp("grouped") / "evaluation", cellset, groups=groups)


@pytest.fixture(scope="session")
def encoders(cellset: CellSet) -> dict[str, Encoder]:
    return {"moco": random_encoder("resnet18", cellset, size=40)}


@pytest.fixture(scope="session")
def features(cellset: CellSet, encoders: dict[str, Encoder]) -> dict[str, Features]:
    return {name: embed(cellset, encoder) for name, encoder in encoders.items()}


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    epoch = np.arange(12)
    table = pd.DataFrame({"epoch": epoch, "loss": 7 - 0.3 * epoch, "top1": 0.05 * epoch, "lr": 0.06, "spread": 0.8})
    table["rankme"] = 20 + 3 * epoch
    table["knn"] = np.where(epoch % 3 == 2, 0.4 + 0.03 * epoch, np.nan)
    path = tmp_path_factory.mktemp("history") / "history.csv"
    table.to_csv(path, index=False)
    return {"moco": path}


@pytest.fixture(scope="session")
def page(
    run: Path, cellset: CellSet, features: dict[str, Features], encoders: dict[str, Encoder], history: dict[str, Path]
) -> Path:
    """A report with every input."""
    return write_report(
        run,
        cellset=cellset,
        features=features,
        encoders=encoders,
        history=history,
        audit={"spoiled": False, "findings": []},
    )


@pytest.fixture(scope="session")
def bare_page(tmp_path_factory: pytest.TempPathFactory, cellset: CellSet, make_run: Callable[..., Path]) -> Path:
    """A report from the run folder alone."""
    return write_report(make_run(tmp_path_factory.mktemp("bare") / "evaluation", cellset))


@pytest.fixture(scope="session")
def two_encoders(cellset: CellSet) -> dict[str, Encoder]:
    return {
        "resnet": random_encoder("resnet18", cellset, size=32),
        "vit": random_encoder("vit_tiny_patch16_224", cellset, size=32),
    }


@pytest.fixture(scope="session")
def new_cells(make_cells: Callable[..., CellSet]) -> CellSet:
    return make_cells(channels=2, dtype="uint16", bit_depth=12, n=40)


@pytest.fixture(scope="session")
def explained(
    tmp_path_factory: pytest.TempPathFactory, cellset: CellSet, two_encoders: dict[str, Encoder], new_cells: CellSet
) -> Path:
    """A run folder of explain with every kind of picture."""
    out = tmp_path_factory.mktemp("explained") / "out"
    options = {"new": new_cells, "patient": "P3", "method": "tsne", "per_class": 1, "device": "cpu"}
    explain(cellset, two_encoders, out, **options)
    return out
