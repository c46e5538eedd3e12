import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine, text

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.common.files import write_json
from leukoscope.differential.classify import classify
from leukoscope.differential.fit import fit
from leukoscope.differential.sample import Sample, SampleInfo
from leukoscope.encoders.bundle import random_encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.features import Features
from leukoscope.review.opened import Opened
from leukoscope.review.serve import listen, open_desk, server_of
from leukoscope.review.store.database import Store
from leukoscope.review.web.desk import Desk

from ..differential.conftest import write_set

KINDS = ("EOS", "LYM", "NEU")


def write_run(folder: Path, n: int = 60, *, seed: int = 0, bits: int = 8, set_aside: int = 3) -> Path:
    """A classified sample as ``classify`` leaves one, of discs; the last ``set_aside`` cells are not counted."""
    random = np.random.default_rng(seed)
    kinds = random.integers(0, len(KINDS), n)
    folder.mkdir(parents=True)
    cells = _write_cells(folder / "cells.set", kinds, random, bits)
    p = random.dirichlet((0.3, 0.3, 0.3), n)
    p = np.stack([np.roll(np.sort(row)[::-1], kind) for row, kind in zip(p, kinds, strict=True)])
    table = pd.DataFrame({"cell_id": cells.ids, "predicted": np.array(KINDS)[p.argmax(1)]})
    for k, name in enumerate(KINDS):
        table[f"p_{name}"] = p[:, k].round(6)
    table = table.assign(doubt=(1 - p.max(1)).round(6), novelty=random.random(n).round(4), novel=False, set_aside="")
    table.loc[n - set_aside :, "set_aside"] = "blurred"
    table.to_csv(folder / "cells.csv", index=False)
    x = np.eye(3, dtype=np.float32)[p.argmax(1)] + random.normal(0, 0.1, (n, 3)).astype(np.float32)
    Features(x, cells.cells).write(folder / "features.h5ad")
    info = SampleInfo(
        classes=KINDS, cells=str(cells.path), pixels_fingerprint=cells.pixels_fingerprint, encoder=None,
        encoder_fingerprint="e" * 64,
    )  # fmt: skip
    write_json(folder / "sample.json", info.model_dump(mode="json"))
    write_json(folder / "results.json", {})
    return folder


def _write_cells(folder: Path, kinds: np.ndarray, random: np.random.Generator, bits: int) -> CellSet:
    y, x = np.mgrid[:16, :16] - 8
    discs = (np.hypot(x, y) < (3.0 + kinds)[:, None, None]) * 150 + 40 + random.normal(0, 3, (len(kinds), 16, 16))
    stored = (discs.clip(0, 255)[:, None] * ((2**bits - 1) / 255)).astype(np.uint8 if bits <= 8 else np.uint16)
    folder.mkdir()
    with CellSetWriter(folder, channels=["grey"], height=16, width=16, dtype=stored.dtype) as writer:
        rows = [{"cell_id": cell_id(cell, f"{i}.png"), "source": f"{i}.png"} for i, cell in enumerate(stored)]
        writer.add(stored, rows)
        writer.finish(packing={}, bit_depth=bits, pixel_size_um=0.5)
    return CellSet.open(folder)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("sample") / "sample-17")


@pytest.fixture(scope="session")
def sample(run: Path) -> Sample:
    return Sample.open(run)


@pytest.fixture(scope="session")
def truth() -> np.ndarray:
    return np.random.default_rng(1).choice(3, 240, p=[0.2, 0.3, 0.5])


@pytest.fixture(scope="session")
def shifted(tmp_path_factory: pytest.TempPathFactory, truth: np.ndarray) -> Path:
    """A sample of darker cells than the classifier learned from, so that it errs."""
    folder = tmp_path_factory.mktemp("shifted")
    training = write_set(folder / "training.set", np.arange(150) % 3, seed=0, pixel_size_um=0.5)
    encoder = random_encoder("resnet18", training, size=24, seed=0)
    encoder.save(folder / "encoder")
    classifier = fit(embed(training, encoder, device="cpu"), folder / "classifier")
    cells = write_set(folder / "sample.set", truth, seed=2, pixel_size_um=0.5)
    images = np.load(cells.path / "images.npy")
    np.save(cells.path / "images.npy", (images * 0.8).astype(images.dtype))
    classify(CellSet.open(cells.path), folder / "encoder", classifier, folder / "run", device="cpu")
    return folder / "run"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL server of our own, up to the name of a database."""
    found = shutil.which("initdb") or next(iter(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
    if found is None:
        pytest.skip("no PostgreSQL here; scripts/install-review-tools.sh installs it")
    programs, folder = Path(found).resolve().parent, Path(tempfile.mkdtemp(prefix="leukoscope-pg-"))
    # PostgreSQL refuses to run as root.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres")
    data, port = folder / "data", _free_port()

    def call(*words: object) -> None:
        subprocess.run([*as_user, *map(str, words)], check=True, capture_output=True, timeout=120, cwd=folder)

    call(programs / "initdb", "-D", data, "-U", "review", "--auth=trust", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=120"
    call(programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    yield f"postgresql://review@127.0.0.1:{port}"
    call(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'review.db'}"
        return
    server = request.getfixturevalue("postgresql")
    name = f"review{time.monotonic_ns()}"
    admin = create_engine(server.replace("://", "+psycopg://") + "/postgres", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield f"{server}/{name}"
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store.open(url)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def opened(store: Store, sample: Sample) -> Opened:
    return Opened.of(store, sample, seed=7)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def answering(desk: Desk, host: str = "127.0.0.1", proxy: str | None = None) -> Iterator[str]:
    """A real server of ``desk`` in a thread; yields its address."""
    server, listening = server_of(desk, host, proxy), listen(host, 0)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://{host}:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts servers of SQLite stores: ``serving(run, ..., reviewer="ann")`` gives the address."""
    with contextlib.ExitStack() as stack:

        def start(*runs: Path, store: Store | None = None, **words: object) -> str:
            used = store or Store.open(f"sqlite:///{tmp_path / 'served.db'}")
            stack.callback(used.engine.dispose)
            return stack.enter_context(answering(open_desk(used, runs, **words)))

        yield start


class Browserless:
    """A reviewer without a browser: keeps cookies, and finds the token on a page as the page's script does."""

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(base_url=address, headers={"Accept": "text/html"}, timeout=30)

    def log_in(self, name: str, password: str) -> httpx.Response:
        return self.http.post("/login", data={"name": name, "password": password})

    def token(self, sample: int = 1) -> str:
        page = self.http.get(f"/samples/{sample}/gallery").text
        return page.partition('data-csrf="')[2].partition('"')[0]

    def label(self, rows: list[int], label: int | None, *, key: str, token: str, source: str = "gallery",
              sample: int = 1) -> httpx.Response:  # fmt: skip
        body = {"key": key, "rows": rows, "label": label, "source": source}
        headers = {"X-CSRF-Token": token, "Accept": "application/json"}
        return self.http.post(f"/samples/{sample}/labels", json=body, headers=headers)
