from pathlib import Path

import numpy as np
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.differential.answers import Answers
from leukoscope.differential.classifier import ClassifierInfo
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.features import Features

KINDS = ("EOS", "LYM", "NEU")


def write_set(
    folder: Path, kinds: np.ndarray, *, seed: int, bits: int = 8, pixel_size_um: float | None = None
) -> CellSet:
    """Write discs whose radius and grey level tell the kind, under noise that makes some of them doubtful."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:24, :24] - 12
    radius = np.array([9.0, 5.0, 7.0])[kinds] + random.normal(0, 0.7, len(kinds))
    level = np.array([60.0, 120.0, 90.0])[kinds] + random.normal(0, 6, len(kinds))
    discs = level[:, None, None] * (np.hypot(x, y) < radius[:, None, None]) + 80
    pixels = np.clip(discs + random.normal(0, 2, discs.shape), 0, 255)[:, None]
    stored = (pixels * ((2**bits - 1) / 255)).astype(np.uint8 if bits <= 8 else np.uint16)
    folder.mkdir()
    with CellSetWriter(folder, channels=["grey"], height=24, width=24, dtype=stored.dtype) as writer:
        rows = [
            {"cell_id": cell_id(cell, f"{i}.png"), "source": f"{i}.png", "label": KINDS[kind], "patient": f"P{i % 10}"}
            for i, (cell, kind) in enumerate(zip(stored, kinds, strict=True))
        ]
        writer.add(stored, rows)
        writer.finish(packing={}, bit_depth=bits, pixel_size_um=pixel_size_um)
    return CellSet.open(folder)


def plain_classifier(classes: tuple[str, ...], confusion: np.ndarray) -> ClassifierInfo:
    """What is known of a classifier with this confusion ``(K, K)``, whose answers are its classes."""
    rows = tuple(map(tuple, confusion.tolist()))
    return ClassifierInfo(
        classes=classes, head="linear", chosen={}, encoder_fingerprint="e", timm_name="t", feature_dim=4,
        channels=("grey",), bit_depth=8, pixels_fingerprint="p", temperature=1, prevalence=(1 / len(rows),) * len(rows),
        confusion=rows, answers=Answers(centres=tuple(map(tuple, np.eye(len(rows)).tolist())), counts=rows),
        cross_validated={}, folds=5, seed=0,
    )  # fmt: skip


def audited_sample(
    n: int, m: int, seed: int, *, share: np.ndarray, rates: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Calls, what a person saw of an audit of m cells, the audit, and the truth of n cells.

    Kinds come with the probabilities ``share``; each row of ``rates`` says how cells of a kind are called.
    """
    random = np.random.default_rng(seed)
    truth = random.choice(len(share), n, p=share)
    predicted = (random.random(n)[:, None] > rates[truth].cumsum(axis=1)).sum(axis=1).clip(max=rates.shape[1] - 1)
    audit = np.zeros(n, dtype=bool)
    audit[random.permutation(n)[:m]] = True
    return predicted, np.where(audit, truth, -1), audit, truth


def doubtful_sample(n: int, m: int, seed: int, *, bent: float = 1.0) -> tuple[np.ndarray, ...]:
    """Probabilities ``(n, 3)`` of cells, what a person saw of an audit of m, the audit, and the truth.

    They are right as often as they say; ``bent``, to this power, they are too sure of themselves, or not enough.
    """
    random = np.random.default_rng(seed)
    p = random.dirichlet((0.6, 0.3, 0.1), n)
    truth = (random.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(max=2)
    audit = np.zeros(n, dtype=bool)
    audit[random.permutation(n)[:m]] = True
    said = p**bent / (p**bent).sum(axis=1, keepdims=True)
    return said, np.where(audit, truth, -1), audit, truth


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    folder = tmp_path_factory.mktemp("training") / "cells.set"
    return write_set(folder, np.arange(300) % 3, seed=0, pixel_size_um=0.5)


@pytest.fixture(scope="session")
def encoder(training_set: CellSet) -> Encoder:
    return random_encoder("resnet18", training_set, size=24, seed=0)


@pytest.fixture(scope="session")
def features(training_set: CellSet, encoder: Encoder) -> Features:
    return embed(training_set, encoder, device="cpu")
