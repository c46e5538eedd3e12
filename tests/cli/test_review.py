import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from leukoscope.differential.sample import Sample
from leukoscope.review.store.accounts import has_accounts, local_reviewer, log_in
from leukoscope.review.store.cells import import_sample
from leukoscope.review.store.database import Store
from leukoscope.review.store.events import label_cells

from ..review.conftest import write_run

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("review") / "sample-17", 20)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'review.db'}"


def test_labels_of_a_run_are_exported(leukoscope, sample, url, tmp_path, capsys):
    store = Store.open(url)
    sample_id = import_sample(store, Sample.open(sample))
    for name in ("ann", "bob"):
        rows = [0, 1] if name == "ann" else [1]
        label_cells(store, sample_id, local_reviewer(store, name), key="key-0001", rows=rows, label=2, source="gallery")
    assert leukoscope("review", sample, "--store", url, "--export", tmp_path / "labels.csv") == 0
    assert capsys.readouterr().out.endswith("labels.csv: 2 cells\n")
    assert leukoscope("review", sample, "--store", url, "--export", tmp_path / "two.csv", "--agree", 2) == 0
    assert pd.read_csv(tmp_path / "two.csv")["reviewer"].tolist() == ["ann", "bob"]


@pytest.fixture
def reviewed(sample, url) -> Store:
    """The store of ``sample``, of which Ann has called a cell NEU."""
    store = Store.open(url)
    sample_id, ann = import_sample(store, Sample.open(sample)), local_reviewer(store, "ann")
    label_cells(store, sample_id, ann, key="key-0001", rows=[0], label=2, source="gallery")
    return store


def test_labels_are_exported_over_a_file_only_where_that_is_asked_for(
    leukoscope, mistake, sample, url, reviewed, tmp_path
):
    out = tmp_path / "labels.csv"
    out.write_text("mine")
    told = mistake("review", sample, "--store", url, "--export", out)
    assert f"{out}: exists already; choose another name or give --overwrite" in told
    assert out.read_text() == "mine"
    assert leukoscope("review", sample, "--store", url, "--export", out, "--overwrite") == 0
    assert pd.read_csv(out)["label"].tolist() == ["NEU"]


def test_where_nothing_is_agreed_upon_no_file_is_written(mistake, sample, url, reviewed, tmp_path):
    out = tmp_path / "labels.csv"
    told = mistake("review", sample, "--store", url, "--export", out, "--agree", 2)
    assert f"--export {out}: no label of {sample} is agreed upon by 2 people; nothing is written" in told
    assert not out.exists()


def test_labels_are_exported_where_the_pixels_are_not(leukoscope, sample, url, reviewed, tmp_path):
    alone = shutil.copytree(sample, tmp_path / "alone", ignore=shutil.ignore_patterns("cells.set", "features.h5ad"))
    told = json.loads((alone / "sample.json").read_text())
    (alone / "sample.json").write_text(json.dumps({**told, "cells": "/no/such.set"}))
    assert leukoscope("review", alone, "--store", url, "--export", tmp_path / "labels.csv") == 0
    assert pd.read_csv(tmp_path / "labels.csv")["label"].tolist() == ["NEU"]


def test_a_sample_that_nobody_reviewed_has_no_labels_and_stays_as_it_is(mistake, sample, url, tmp_path):
    words = f"{sample}: nobody has reviewed it in this store; open it with 'leukoscope review'"
    assert words in mistake("review", sample, "--export", tmp_path / "labels.csv")
    assert not (sample / "review.db").exists()
    told = mistake("review", sample, "--store", url, "--export", tmp_path / "labels.csv")
    assert f"{url}: there is no store; is the address right?" in told
    Store.open(url)
    assert words in mistake("review", sample, "--store", url, "--export", tmp_path / "labels.csv")


def test_an_account_is_made_with_a_password_from_standard_input(leukoscope, url, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(PASSWORD + "\n"))
    assert leukoscope("review", "--store", url, "--add-user", "ann", "--role", "admin") == 0
    assert log_in(Store.open(url), "ann", PASSWORD, "127.0.0.1")


def test_an_account_is_not_closed_in_a_store_that_is_not_there(mistake, url, tmp_path):
    told = mistake("review", "--store", url, "--close-user", "ann")
    assert f"{url}: there is no store; is the address right?" in told
    assert not list(tmp_path.iterdir())


def test_an_account_with_a_short_password_is_refused(mistake, url, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("short\n"))
    assert "the password of ann needs at least 12 characters" in mistake("review", "--store", url, "--add-user", "ann")
    assert not has_accounts(Store.open(url))


@pytest.mark.parametrize(
    ("redirected", "told"),
    [
        ("<&-", "the password of ann: there is no terminal to ask at; give it on standard input"),
        ("</dev/null", "the password of ann: there is no terminal to ask at; give it on standard input"),
        ("0>/dev/null", "the password of ann cannot be read from standard input ([Errno 9] Bad file descriptor)"),
    ],
)
def test_without_a_terminal_a_password_that_is_not_given_is_asked_for_in_one_line(url, redirected, told):
    verb = f"{sys.executable} -c 'from leukoscope.cli.main import run; run()' review --store {url} --add-user ann"
    ended = subprocess.run(["sh", "-c", f"{verb} {redirected}"], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (2, f"error: {told}\n")


def test_a_password_that_is_no_text_is_told(mistake, url, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\n"), "utf-8"))
    assert "the password of ann cannot be read from standard input" in mistake(
        "review", "--store", url, "--add-user", "ann"
    )


def test_others_reach_the_page_only_with_accounts(mistake, sample, url):
    told = mistake("review", sample, "--store", url, "--host", "0.0.0.0", "--no-browser")
    assert "--host 0.0.0.0: others could reach this page, and nobody has an account" in told


def test_with_accounts_nobody_is_named_on_the_command_line(mistake, sample, url, leukoscope, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(PASSWORD + "\n"))
    leukoscope("review", "--store", url, "--add-user", "ann")
    told = mistake("review", sample, "--store", url, "--reviewer", "bob", "--no-browser")
    assert "--reviewer bob: this store has accounts; log in on the page" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "RUN: give the run folder of a classified sample"),
        (("/no/such/run",), "/no/such/run: no classified sample (no sample.json); make one with 'leukoscope classify'"),
        (("{run}", "--store", "mysql://x/y"), "mysql://x/y: a store is sqlite:///FILE or postgresql://USER@HOST/NAME"),
        (
            ("{run}", "--export", "x.csv", "--agree", "1", "{run}"),
            "--export x.csv: writes the labels of one run; 2",
        ),
        (("{run}", "--attention", "/no/such/run"), "--attention /no/such/run: no attention.parquet there"),
        (("{run}", "--host", "203.0.113.7.9"), "--host 203.0.113.7.9: others could reach this page"),
    ],
)
def test_mistakes_are_told_in_one_line(mistake, sample, words, told):
    assert told in mistake("review", *(word.format(run=sample) for word in words))


def test_a_reviewer_without_a_name_is_refused(mistake, sample, url):
    told = mistake("review", sample, "--store", url, "--reviewer", "  ", "--no-browser")
    assert "'  ': a reviewer's name has 1 to 80 characters and no space at its ends" in told


def test_a_port_that_is_taken_is_named(mistake, sample, url):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = mistake("review", sample, "--store", url, "--port", port, "--no-browser")
    assert f"--host 127.0.0.1 --port {port}: cannot listen there (Address already in use)" in told


def test_a_missing_extra_is_named(mistake, sample, monkeypatch):
    monkeypatch.setitem(sys.modules, "argon2", None)
    told = mistake("review", sample)
    assert "review needs argon2, which is not installed: pip install 'leukoscope[review]'" in told
