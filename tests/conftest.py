import os

# One thread a test process: results are bit-identical from run to run, and parallel workers do not fight for cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.common.files import shared_data

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def real_cells() -> Path:
    """The folder of real cells; tests that need it skip where it is absent."""
    place = shared_data()
    if place is None:
        pytest.skip("real cells are absent: no ../shared/data and no LEUKOSCOPE_DATA")
    return place


@pytest.fixture(scope="session")
def bars(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    """200 cells of ten slides: a bright bar left of a dark one, or right of it, anywhere, under noise.

    Random features tell the two kinds apart badly, and a network of trained weights well.
    """
    out, random = tmp_path_factory.mktemp("bars") / "bars.set", np.random.default_rng(0)
    out.mkdir()
    with CellSetWriter(out, channels=["grey"], height=16, width=16, dtype=np.dtype(np.uint8)) as writer:
        for i in range(200):
            y, x = random.integers(2, 8, 2)
            image = np.full((16, 16), 128.0)
            image[y : y + 6, x : x + 6] = np.repeat((200, 60) if i % 2 else (60, 200), 3)
            pixels = (image + random.normal(0, 40, (1, 1, 16, 16))).clip(0, 255).astype(np.uint8)
            told = {"label": ("dark-left", "bright-left")[i % 2], "slide": f"S{i // 2 % 10}"}
            writer.add(pixels, [{"cell_id": cell_id(pixels[0], f"{i}.png"), "source": f"{i}.png", **told}])
        writer.finish(packing={})
    return CellSet.open(out)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A Chromium without a window; tests that need it skip where it is absent."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here; scripts/install-browser.sh installs it")
    from playwright.sync_api import sync_playwright

    switches = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=switches)
        yield launched
        launched.close()
