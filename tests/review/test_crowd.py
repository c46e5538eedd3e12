"""Many at once, and a server that dies: no label is lost, none is doubled."""

import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from leukoscope.review.serve import open_desk
from leukoscope.review.store.accounts import add_reviewer
from leukoscope.review.store.database import Store
from leukoscope.review.store.models import Action, CellRow, Event, Opinion, Reviewer

from .conftest import Browserless, answering

PASSWORD = "correct horse battery"
REVIEWERS, EACH = 12, 10


def test_reviewers_at_once_neither_lose_nor_double_a_label(store, run):
    names = [f"reviewer-{i}" for i in range(REVIEWERS)]
    for name in names:
        add_reviewer(store, name, "reviewer", PASSWORD)
    with answering(open_desk(store, [run])) as address, ThreadPoolExecutor(REVIEWERS) as pool:
        list(pool.map(lambda name: label_twice_each(address, name), names))
    with store.reading() as session:
        events = session.execute(
            select(Reviewer.name, Event.row, Event.label_to)
            .join(Action, Action.reviewer_id == Reviewer.id).join(Event, Event.action_id == Action.id)
        ).all()  # fmt: skip
        cells = {cell.row: cell for cell in session.scalars(select(CellRow))}
        opinions = session.scalars(select(Opinion)).all()
    assert Counter(name for name, _, _ in events) == dict.fromkeys(names, EACH)
    assert len(opinions) == REVIEWERS * EACH
    assert [cells[row].opinions for row in range(EACH)] == [REVIEWERS] * EACH
    # All agree on even cells, and nobody can have on odd ones.
    assert [cells[row].label for row in range(EACH)] == [2 if row % 2 == 0 else None for row in range(EACH)]


def label_twice_each(address: str, name: str) -> None:
    """Label the same cells as everybody, each request sent twice at once, as an impatient browser does."""
    me = Browserless(address)
    assert me.log_in(name, PASSWORD).status_code == 303
    token, number = me.token(), int(name.partition("-")[2])
    with ThreadPoolExecutor(2) as twice:
        for row in range(EACH):
            label = 2 if row % 2 == 0 else number % 2
            answers = list(twice.map(
                lambda _, row=row, label=label: me.label([row], label, key=f"{name}-{row:04}", token=token), range(2)
            ))  # fmt: skip
            assert [answer.status_code for answer in answers] == [200, 200]


def test_a_killed_server_has_every_label_that_it_acknowledged(tmp_path: Path, run: Path):
    url = f"sqlite:///{tmp_path / 'review.db'}"
    process, address = start(run, url)
    ann = Browserless(address)
    token, acknowledged = ann.token(), {}
    with ThreadPoolExecutor(4) as pool:
        sent = {row: pool.submit(ann.label, [row], row % 3, key=f"key-{row:04}", token=token) for row in range(60)}
        sent[15].result()
        os.kill(process.pid, signal.SIGKILL)
        for row, answer in sent.items():
            try:
                if answer.result().status_code == 200:
                    acknowledged[row] = row % 3
            except httpx.TransportError:
                continue
    process.wait()
    assert len(acknowledged) >= 15
    store = Store.open(url)
    with store.reading() as session:
        kept = {cell.row: cell.label for cell in session.scalars(select(CellRow).where(CellRow.opinions > 0))}
        events = session.scalars(select(Event.row)).all()
    assert acknowledged.items() <= kept.items()
    assert sorted(events) == sorted(kept)
    store.engine.dispose()


def start(run: Path, url: str) -> tuple[subprocess.Popen, str]:
    """``leukoscope review`` in a process of its own, and its address."""
    words = ["review", str(run), "--store", url, "--port", "0", "--no-browser", "--reviewer", "ann"]
    code = "from leukoscope.cli.main import run; run()"
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    if not line.startswith("review at "):
        pytest.fail(f"the server did not start: {line}")
    return process, line.split()[2].rstrip("/")
