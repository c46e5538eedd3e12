import shutil
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.bags.crossval import BagSettings
from leukoscope.bags.mil import mil
from leukoscope.cli.main import run as verb
from leukoscope.common.errors import InputError
from leukoscope.differential.sample import Sample
from leukoscope.encoders.features import Features
from leukoscope.review.attention import Attention
from leukoscope.review.opened import Opened
from leukoscope.review.serve import open_desk
from leukoscope.review.store.accounts import local_reviewer
from leukoscope.review.store.cells import SET_ASIDE
from leukoscope.review.store.events import label_cells
from leukoscope.review.store.ordered import page_of

from .conftest import Browserless, answering

LOOKED_AT = 50


@pytest.fixture(scope="module")
def patients(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ``mil`` on the first fifty cells of the sample, of ten patients."""
    features = Features.read(run / "features.h5ad")
    number = np.arange(LOOKED_AT) // 5
    told = {"patient": [f"P{i}" for i in number], "diagnosis": np.where(number % 2, "AML", "healthy")}
    own = Features(features.x[:LOOKED_AT], features.cells[:LOOKED_AT].assign(**told))
    settings = BagSettings.parse({"device": "cpu", "train": {"epochs": 3}}, where="test")
    out = tmp_path_factory.mktemp("mil") / "run"
    heads = ("class-attention", "abmil", "mean-features")
    mil({"moco": own}, out, label="diagnosis", heads=heads, n_folds=2, seeds=(0, 1), settings=settings, n_bootstrap=5)
    return out


@pytest.fixture
def looked(store, sample, patients) -> Opened:
    return Opened.of(store, sample, attention=Attention.read(patients))


@pytest.mark.parametrize("head", ["class-attention", "abmil"])
def test_attention_is_to_the_class_that_the_patient_was_called_averaged_over_seeds(patients, head):
    table, said = (pd.read_parquet(patients / f"{name}.parquet") for name in ("attention", "predictions"))
    table, said = table[table["head"] == head], said[said["head"] == head]
    found = Attention.read(patients, head=head).of_cell
    assert len(found) == LOOKED_AT
    for patient, cells in table.groupby("bag"):
        mean = said[said["cell_id"] == patient][["p_AML", "p_healthy"]].mean()
        column = "a" if head == "abmil" else f"a_{mean.idxmax()[2:]}"
        for cell_id, given in cells.groupby("cell_id"):
            assert found[cell_id] == pytest.approx(given[column].mean() * 5)  # five cells share it


def test_the_first_model_is_taken_unless_another_is_named(patients):
    assert Attention.read(patients).head == "class-attention"
    assert Attention.read(patients, head="moco/abmil").head == "abmil"
    with pytest.raises(InputError, match=r"choose from moco/class-attention, moco/abmil$"):
        Attention.read(patients, head="mean-features")


def test_cells_that_no_model_looked_at_come_last(looked, patients):
    order = looked.by_attention(None)
    given = looked.attention[order]
    assert sorted(order) == list(range(len(looked.predicted)))
    assert (np.diff(given[:LOOKED_AT]) <= 0).all()
    assert np.isnan(given[LOOKED_AT:]).all()
    of_class = looked.by_attention(1)
    assert set(of_class) == set(np.flatnonzero(looked.counted & (looked.predicted == 1)))
    assert of_class.tolist() == [row for row in order if row in set(of_class)]
    assert set(looked.by_attention(SET_ASIDE)) == set(np.flatnonzero(~looked.counted))


@pytest.mark.parametrize("size", [7, 60, 100])
def test_pages_show_every_cell_once_and_in_order_and_leave_out_seen_ones(store, looked, size):
    rows = looked.by_attention(None)
    ann = local_reviewer(store, "ann")
    seen = rows[3:40].tolist()
    label_cells(store, looked.id, ann, key="key-0001", rows=seen, label=0, source="gallery")

    def walk(**words) -> list[int]:
        shown, after = [], None
        with store.reading() as session:
            while True:
                page = page_of(session, looked.id, rows, size=size, after=after, **words)
                shown += [cell.row for cell in page.cells]
                after = page.after
                if after is None:
                    return shown

    assert walk() == rows.tolist()
    assert walk(unseen=True) == [row for row in rows if row not in seen]
    assert walk(unseen=True, by=local_reviewer(store, "bob")) == rows.tolist()
    for after in ("-1", "9" * 5000):
        with store.reading() as session, pytest.raises(InputError, match="after: not the end of a page"):
            page_of(session, looked.id, rows, size=5, after=after)


def test_a_gallery_is_sorted_by_attention_where_there_is_some(store, run, patients):
    desk = open_desk(store, [run], reviewer="ann", attention=Attention.read(patients))
    with answering(desk) as address:
        ann = Browserless(address)
        page = ann.http.get("/samples/1/gallery?sort=attention&of=2").text
        rows = [int(part.partition('"')[0]) for part in page.split('name="row" value="')[1:]]
        assert rows == desk.samples[1].by_attention(2).tolist()
        assert '<option value="attention" selected>' in page
        assert "Most attention" in ann.http.get("/samples/1").text
        assert "of an even share" in ann.http.get("/samples/1/history/0").text
        blind = ann.http.get("/samples/1/gallery?sort=attention&blind=true").text
        by_chance = ann.http.get("/samples/1/gallery?sort=chance&blind=true").text
    assert blind.partition("<ul")[2].partition("</ul>")[0] == by_chance.partition("<ul")[2].partition("</ul>")[0]


def test_without_attention_the_order_is_not_offered(serving, run):
    ann = Browserless(serving(run, reviewer="ann"))
    assert 'value="attention"' not in ann.http.get("/samples/1/gallery?of=1").text
    answer = ann.http.get("/samples/1/gallery?sort=attention")
    assert answer.status_code == 404
    assert "No attention is known here; start leukoscope review with --attention." in answer.text


def test_attention_to_other_cells_is_refused(store, run, patients, tmp_path):
    attention = Attention.read(patients)
    other = Attention(attention.encoder, attention.head, attention.of_cell.rename(lambda cell_id: f"other-{cell_id}"))
    assert Opened.of(store, Sample.open(run), attention=other).attention is None
    with pytest.raises(InputError, match="--attention: moco, class-attention looked at no cell of these samples"):
        open_desk(store, [run], attention=other)


def test_a_run_without_attention_is_refused(patients, tmp_path):
    bare = shutil.copytree(patients, tmp_path / "bare", ignore=shutil.ignore_patterns("attention.parquet"))
    with pytest.raises(InputError, match=r"no attention\.parquet there; give a run of 'leukoscope mil' whose"):
        Attention.read(bare)


def test_the_verb_says_how_many_cells_were_looked_at(run, patients, tmp_path, capsys, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [
            "review",
            run,
            "--store",
            f"sqlite:///{tmp_path / 'review.db'}",
            "--no-browser",
            "--attention",
            patients,
        ]
        port = ["--attention-head", "abmil", "--port", taken.getsockname()[1]]
        monkeypatch.setattr("sys.argv", ["leukoscope", *map(str, [*words, *port])])
        with pytest.raises(SystemExit):
            verb()
    assert "sample-17: attention of moco, abmil, for 50 of 60 cells" in capsys.readouterr().out
