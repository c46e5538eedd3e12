"""The pages of a review at 100,000 cells, before and after all are reviewed, and many reviewers who label at once.

    python benchmarks/review.py [--cells 100000] [--dimensions 512] [--repeats 20] [--reviewers 50] [--labels 20]
                                [--store URL]

A sample of random cells is written and served by a process of its own. Each page is asked for, again and again, at
places of the sample that change, and the time until its whole body is here is measured; pages come with the sessions
and accounts of a laboratory. Then reviewers label at once, each request sent twice, and the store must hold every
label once. At last all other cells are reviewed, the pages that count them are timed again, and the sample is signed.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
from sqlalchemy import select

from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.common.files import write_json
from leukoscope.differential.fit import fit
from leukoscope.differential.sample import SampleInfo
from leukoscope.encoders.features import Features
from leukoscope.review.store.accounts import add_reviewer
from leukoscope.review.store.database import Store
from leukoscope.review.store.models import Action, Event, Opinion, Reviewer

CLASSES = ("BAS", "EOS", "LYM", "MON", "NEU")
SHARES = (0.01, 0.04, 0.3, 0.05, 0.6)
GATES = 5
PASSWORD = "a password of the benchmark"


def write_sample(folder: Path, n: int, dimensions: int, random: np.random.Generator) -> None:
    """A classified sample of ``n`` cells of 32x32 pixels, nearly all of them certain, two in a hundred set aside."""
    cells = folder / "cells.set"
    cells.mkdir(parents=True)
    with CellSetWriter(cells, channels=["grey"], height=32, width=32, dtype=np.dtype(np.uint16)) as writer:
        for start in range(0, n, 1000):
            pixels = random.integers(0, 4096, (min(1000, n - start), 1, 32, 32), dtype=np.uint16)
            ids = [cell_id(cell, f"{start + i}.png") for i, cell in enumerate(pixels)]
            writer.add(pixels, [{"cell_id": each, "source": each.partition(":")[2]} for each in ids])
        info = writer.finish(packing={}, bit_depth=12)
    table = pd.read_parquet(cells / "cells.parquet")
    predicted = random.choice(len(CLASSES), n, p=SHARES)
    doubt = random.beta(0.3, 6, n).round(6) * 0.79
    p = {f"p_{name}": np.where(predicted == k, 1 - doubt, doubt / 4) for k, name in enumerate(CLASSES)}
    said = pd.DataFrame({"cell_id": table["cell_id"], "predicted": np.array(CLASSES)[predicted], **p, "doubt": doubt})
    said = said.assign(
        novelty=random.random(n), novel=False, set_aside=np.where(random.random(n) < 0.02, "blurred", "")
    )
    said.to_csv(folder / "cells.csv", index=False)
    features_of(predicted, table[["cell_id"]], dimensions, random).write(folder / "features.h5ad")
    known = random.integers(len(CLASSES), size=300)
    labelled = pd.DataFrame({"cell_id": [f"known-{i}" for i in range(300)], "label": np.array(CLASSES)[known]})
    fit(features_of(known, labelled, dimensions, random), folder / "classifier", n_folds=3)
    sample = SampleInfo(classes=CLASSES, cells=str(cells), pixels_fingerprint=info.pixels_fingerprint, encoder=None,
                        encoder_fingerprint="0" * 64)  # fmt: skip
    write_json(folder / "sample.json", sample.model_dump(mode="json"))
    write_json(folder / "results.json", {})


def features_of(kinds: np.ndarray, table: pd.DataFrame, dimensions: int, random: np.random.Generator) -> Features:
    """Random features, of another centre for each class, that say they are of an encoder."""
    x = random.normal(size=(len(kinds), dimensions)).astype(np.float32)
    x[np.arange(len(kinds)), kinds] += 4
    origin = {"encoder_fingerprint": "0" * 64, "timm_name": "none", "channels": ["grey"], "bit_depth": 12,
              "pixels_fingerprint": "0" * 64}  # fmt: skip
    return Features(x, table, origin)


def serve(run: Path, url: str) -> tuple[subprocess.Popen[str], str]:
    """``leukoscope review`` in a process of its own, and its address."""
    words = ["review", str(run), "--store", url, "--port", "0", "--no-browser"]
    command = [sys.executable, "-c", "from leukoscope.cli.main import run; run()", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[2].rstrip("/")


def logged_in(address: str, name: str) -> httpx.Client:
    client = httpx.Client(base_url=address, headers={"Accept": "text/html"}, timeout=120)
    assert client.post("/login", data={"name": name, "password": PASSWORD}).status_code == 303
    return client


def token_of(client: httpx.Client) -> str:
    return client.get("/samples/1/audit").text.partition('data-csrf="')[2].partition('"')[0]


def pages(n: int, random: np.random.Generator) -> dict[str, Callable[[], str]]:
    """The address of every page, at another place of the sample each time."""

    def at(pattern: str) -> Callable[[], str]:
        return lambda: pattern.format(
            row=random.integers(n), of=random.integers(5), doubt=random.beta(0.3, 6) * 0.79, share=random.random(),
            place=random.integers(n), start=random.integers(n // 100),
        )  # fmt: skip

    return {
        "samples": at("/"),
        "sample": at("/samples/1"),
        "gallery by doubt": at("/samples/1/gallery?of={of}&after={doubt}:{row}"),
        "gallery by novelty": at("/samples/1/gallery?of={of}&sort=novelty&after={share}:{row}"),
        "gallery by chance": at("/samples/1/gallery?of={of}&sort=chance&after={place}:{row}"),
        "all by doubt": at("/samples/1/gallery?after={doubt}:{row}"),
        "all by novelty": at("/samples/1/gallery?sort=novelty&after={share}:{row}"),
        "all, unreviewed only": at("/samples/1/gallery?unseen=true&after={doubt}:{row}"),
        "set aside": at("/samples/1/gallery?of=-1&after={doubt}:{row}"),
        "audit": at("/samples/1/audit"),
        "disputes": at("/samples/1/disputes"),
        "similar": at("/samples/1/similar/{row}"),
        "history": at("/samples/1/history/{row}"),
        "progress": at("/samples/1/progress"),
        "thumbnail": at("/samples/1/cells/{row}.png"),
        f"map, {GATES} gates": at("/samples/1/map"),
        "gate": at("/samples/1/gates/1?start={start}"),
    }


def time_pages(
    client: httpx.Client, found: Mapping[str, Callable[[], str]], repeats: int, between: Callable[[], object]
) -> float:
    """Print the times of pages and return the slowest median, in milliseconds; ``between`` comes before each."""
    slowest = 0.0
    print(f"{'page':22} {'median':>8} {'95 %':>8}  ms")
    for name, address in found.items():
        times = []
        for _ in range(repeats):
            between()
            start = time.perf_counter()
            answer = client.get(address())
            times.append(1000 * (time.perf_counter() - start))
            assert answer.status_code == 200, answer.text
        median, high = np.percentile(times, [50, 95])
        slowest = max(slowest, float(median))
        print(f"{name:22} {median:8.1f} {high:8.1f}", flush=True)
    return slowest


def label(client: httpx.Client, token: str, rows: list[int], value: int | None, key: str) -> float:
    """Label cells; the time it took, in milliseconds."""
    body = {"key": key, "rows": rows, "label": value, "source": "gallery"}
    start = time.perf_counter()
    answer = client.post("/samples/1/labels", json=body, headers={"X-CSRF-Token": token})
    assert answer.status_code == 200, answer.text
    return 1000 * (time.perf_counter() - start)


def draw_gates(client: httpx.Client, token: str) -> None:
    """Gates that hold more and more of the cells."""
    (left, bottom), (right, top) = client.get("/samples/1/points.json").json()["corners"]
    for i in range(1, GATES + 1):
        x, y = left + (right - left) * i / GATES, bottom + (top - bottom) * i / GATES
        outline = json.dumps([[left, bottom], [x, bottom], [x, y], [left, y]])
        answer = client.post("/samples/1/gates", data={"csrf": token, "name": f"gate {i}", "outline": outline})
        assert answer.status_code == 303, answer.text


def review_all(client: httpx.Client, token: str, rows: range) -> None:
    """Confirm what cells were called."""
    for start in range(rows.start, rows.stop, 5000):
        label(client, token, list(range(start, min(start + 5000, rows.stop))), None, f"all-{start:08}")


def sign(client: httpx.Client, token: str) -> None:
    form = {"csrf": token, "password": PASSWORD, "unproved": "true"}
    answer = client.post("/samples/1/sign", data=form)
    assert answer.status_code == 303, answer.text


def crowd(address: str, names: list[str], each: int, n: int) -> list[float]:
    """Everybody labels the same ``each`` cells at once, each request sent twice; the times of all requests."""
    clients = [(name, logged_in(address, name)) for name in names]
    tokens = {name: token_of(client) for name, client in clients}
    rows = range(n - each, n)

    def work(one: tuple[str, httpx.Client]) -> list[float]:
        name, client = one
        sent = itertools.product(rows, range(2))
        return [label(client, tokens[name], [row], row % 5, f"{name}-{row:08}") for row, _ in sent]

    with ThreadPoolExecutor(len(names)) as pool:
        return [took for times in pool.map(work, clients) for took in times]


def refuse_lost_or_doubled(url: str, names: list[str], each: int, n: int) -> None:
    store = Store.open(url)
    with store.reading() as session:
        acted = select(Reviewer.name, Event.row).join(Action, Action.reviewer_id == Reviewer.id)
        events = session.execute(acted.join(Event, Event.action_id == Action.id).where(Event.row >= n - each)).all()
        held = session.execute(
            select(Reviewer.name, Opinion.row, Opinion.label).join(Reviewer).where(Opinion.row >= n - each)
        ).all()
    wanted = {(name, row) for name in names for row in range(n - each, n)}
    counted = Counter((name, row) for name, row in events if name in names)
    assert counted == Counter(wanted), "a label was lost or doubled"
    assert {(name, row, row % 5) for name, row in wanted} <= {tuple(each) for each in held}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--reviewers", type=int, default=50)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--store", help="an empty store; by default a file of SQLite")
    asked = parser.parse_args()
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        url = asked.store or f"sqlite:///{folder}/review.db"
        write_sample(Path(folder) / "sample", asked.cells, asked.dimensions, random)
        names = [f"reviewer-{i}" for i in range(asked.reviewers)]
        store = Store.open(url)
        for name in ("first", *names):
            add_reviewer(store, name, "reviewer", PASSWORD)
        start = time.perf_counter()
        process, address = serve(Path(folder) / "sample", url)
        print(f"{asked.cells:,} cells, {os.cpu_count()} CPUs; ready after {time.perf_counter() - start:.0f} s")
        try:
            client = logged_in(address, "first")
            token, numbers, others = token_of(client), itertools.count(), asked.cells - asked.labels
            client.get("/samples/1/similar/0")  # reads the features, once
            draw_gates(client, token)

            def between() -> None:
                # Not of the cells that all reviewers label below: they would be disputed.
                label(client, token, [int(random.integers(others))], 1, f"between-{next(numbers):06}")

            found = pages(asked.cells, random)
            slowest = time_pages(client, found, asked.repeats, between)
            start = time.perf_counter()
            times = crowd(address, names, asked.labels, asked.cells)
            took = time.perf_counter() - start
            review_all(client, token, range(others))
            print("all cells reviewed")
            counted = {name: found[name] for name in ("samples", "sample", "progress", f"map, {GATES} gates")}
            slowest = max(slowest, time_pages(client, counted, asked.repeats, between))
            sign(client, token)
            signed = {"signed": lambda: "/samples/1/signed"}
            slowest = max(slowest, time_pages(client, signed, asked.repeats, lambda: None))
            time_pages(client, {"signed, checked again": lambda: "/samples/1/signed?check=true"}, 3, lambda: None)
            print(f"slowest page, but for that: {slowest:.0f} ms at the median")
        finally:
            process.terminate()
            process.wait()
        refuse_lost_or_doubled(url, names, asked.labels, asked.cells)
        median, high = np.percentile(times, [50, 95])
        print(f"{asked.reviewers} reviewers at once: {len(times):,} requests in {took:.1f} s with their logins, "
              f"{median:.0f} ms at the median, {high:.0f} ms at 95 %; no label lost or doubled")  # fmt: skip


if __name__ == "__main__":
    main()
