import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert

from leukoscope.differential.audited_leukocytes import audited_leukocytes
from leukoscope.differential.sample import Sample
from leukoscope.review.leukocytes import LeukocyteClasses, by_leukocytes
from leukoscope.review.opened import Opened
from leukoscope.review.signing import digest_of, sign
from leukoscope.review.standing import standing
from leukoscope.review.store.accounts import local_reviewer
from leukoscope.review.store.database import Store
from leukoscope.review.store.events import label_cells
from leukoscope.review.store.models import Signature

from .conftest import Browserless, write_run


def renamed(run: Path, **names: str) -> Path:
    """The run with some of its classes called otherwise."""
    for file in ("sample.json", "cells.csv"):
        text = (run / file).read_text()
        for old, new in names.items():
            text = text.replace(old, new)
        (run / file).write_text(text)
    return run


def tell(run: Path, leukocytes: dict[str, Any], **words: object) -> None:
    """Write what ``classify`` says of the classes, as far as a review asks for it."""
    counted = {"count": 1, "corrected_proportion": 0.3, "patient": [0.1, 0.6]}
    rows = {name: {**counted, "leukocytes": row} for name, row in leukocytes.items()}
    (run / "differential.json").write_text(json.dumps({"n": 100, "classes": rows, **words}))


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Eosinophils, neutrophils, and erythroblasts, which are counted beside them."""
    return renamed(write_run(tmp_path / "mixed", 100, set_aside=0), LYM="erythroblast")


@pytest.fixture
def store(tmp_path):
    opened = Store.open(f"sqlite:///{tmp_path / 'review.db'}")
    yield opened
    opened.engine.dispose()


def test_a_signed_report_gives_shares_of_the_leukocytes_beside_those_of_all_cells(store, mixed):
    opened = Opened.of(store, Sample.open(mixed))
    ann, artefacts = local_reviewer(store, "ann"), opened.queue[:7].tolist()
    label_cells(store, opened.id, ann, key="key-0001", rows=artefacts, label=3, source="audit")
    label_cells(store, opened.id, ann, key="key-0002", rows=opened.queue[7:].tolist(), label=None, source="audit")
    document = sign(store, opened, ann).document
    eos, red, neu = np.bincount(opened.predicted[opened.queue[7:]], minlength=3)
    assert document["leukocytes"] == eos + neu
    rows = document["differential"]
    assert rows["NEU"]["proportion"] == pytest.approx(neu / 100)
    for name, key, share in (
        ("NEU", "leukocytes", neu / (eos + neu)),
        ("EOS", "leukocytes", eos / (eos + neu)),
        ("erythroblast", "per_leukocyte", red / (eos + neu)),
    ):
        told = rows[name][key]
        assert [told["as_reviewed"], told["proportion"]] == pytest.approx([share, share])
        assert told["composition"] == pytest.approx([share, share])
        assert told["patient"][0] < share < told["patient"][1]
    assert rows["erythroblast"]["leukocytes"] is rows["NEU"]["per_leukocyte"] is None


def test_shares_under_way_are_those_of_the_audit(store, mixed):
    opened = Opened.of(store, Sample.open(mixed))
    seen = opened.queue[:40]
    ann = local_reviewer(store, "ann")
    label_cells(store, opened.id, ann, key="key-0001", rows=seen.tolist(), label=None, source="audit")
    truth, audit = np.full(100, -1), np.zeros(100, bool)
    truth[seen], audit[seen] = opened.predicted[seen], True
    expected = audited_leukocytes(opened.said, truth, audit, opened.classes, (True, False, True))
    with store.reading() as session:
        assert standing(session, opened).leukocytes.audited == tuple(expected)


def test_the_pages_and_the_file_show_them_and_blind_ones_do_not(serving, store, mixed, tmp_path):
    ann = Browserless(serving(mixed, store=store, reviewer="ann"))
    token = ann.token()
    ann.label(list(range(100)), None, key="key-0001", token=token, source="audit")
    assert "Per 100 leukocytes" in ann.http.get("/samples/1").text
    blind = Browserless(serving(mixed, store=store, reviewer="bob", blind=True))
    assert "leukocytes" not in blind.http.get("/samples/1").text
    ann.http.post("/samples/1/sign", data={"csrf": token})
    page = ann.http.get("/samples/1/signed").text
    assert "erythroblast (beside them)" in page
    answer = ann.http.get("/samples/1/signed.json")
    assert answer.headers["content-disposition"] == "attachment; filename=signed.json"
    told = answer.json()
    assert digest_of(told["document"]) == told["sha256"]
    assert told["document"]["differential"]["NEU"]["leukocytes"]["as_reviewed"] > 0
    assert blind.http.get("/samples/1/signed.json").status_code == 403


def test_a_report_that_was_signed_without_them_is_still_shown(serving, store, mixed, tmp_path):
    other = Store.open(f"sqlite:///{tmp_path / 'other.db'}")
    opened = Opened.of(other, Sample.open(mixed))
    document = dict(sign(other, opened, local_reviewer(other, "ann"), unproved=True).document)
    del document["leukocytes"], document["assumed_leukocytes"]
    for row in document["differential"].values():
        del row["leukocytes"], row["per_leukocyte"]
    ann = Browserless(serving(mixed, store=store, reviewer="ann"))
    with store.writing() as session:
        signed = {"sample_id": 1, "reviewer_id": 1, "sha256": digest_of(document), "document": document}
        session.execute(insert(Signature).values(**signed, time=datetime.fromisoformat(document["time"])))
    page = ann.http.get("/samples/1/signed")
    assert page.status_code == 200
    assert "Per 100 leukocytes" not in page.text
    assert by_leukocytes(document["differential"]) == []


def test_what_a_laboratory_said_of_its_classes_when_it_classified_holds(mixed):
    sample = Sample.open(renamed(mixed, EOS="hairy-ish"))
    assert LeukocyteClasses.of(sample) == LeukocyteClasses((True, False, True), ("hairy-ish",))
    tell(mixed, {"hairy-ish": None, "erythroblast": None, "NEU": {"value": 1.0}}, assumed_leukocytes=[])
    assert LeukocyteClasses.of(Sample.open(mixed)) == LeukocyteClasses((False, False, True), ())


def test_a_signed_report_gives_absolute_numbers_where_the_total_is_known(serving, store, mixed):
    tell(mixed, {"EOS": {"value": 0.5}, "erythroblast": None, "NEU": {"value": 0.5}}, total=8.0)
    ann = Browserless(serving(mixed, store=store, reviewer="ann"))
    token = ann.token()
    assert "10⁹/L" not in ann.http.get("/samples/1").text
    ann.label(list(range(100)), None, key="key-0001", token=token, source="audit")
    ann.http.post("/samples/1/sign", data={"csrf": token})
    rows = ann.http.get("/samples/1/signed.json").json()["document"]["differential"]
    share, absolute = rows["NEU"]["leukocytes"], rows["NEU"]["leukocytes"]["absolute"]
    assert absolute["value"] == pytest.approx(8 * share["proportion"])
    assert [absolute["low"], absolute["high"]] == pytest.approx([8 * end for end in share["patient"]])
    assert "absolute" not in rows["erythroblast"]["per_leukocyte"]
    page = ann.http.get("/samples/1/signed").text
    told = f"<strong>{absolute['value']:.2f}</strong> ({absolute['low']:.2f} to {absolute['high']:.2f})"
    assert told in page
    assert "Absolute numbers are those shares of 8 × 10⁹/L, as told to classify" in page


def test_a_signed_report_flags_audited_shares_by_the_ranges_of_the_count(serving, store, mixed):
    tell(mixed, {"EOS": {"value": 0.5}, "erythroblast": None, "NEU": {"value": 0.5}}, total=8.0)
    differential = json.loads((mixed / "differential.json").read_text())
    differential["classes"]["EOS"]["ranges"] = {"percent": [0, 6], "absolute": [0, 100]}
    differential["classes"]["NEU"]["ranges"] = {"absolute": [7.9, 9]}
    (mixed / "differential.json").write_text(json.dumps(differential))
    ann = Browserless(serving(mixed, store=store, reviewer="ann"))
    token = ann.token()
    ann.label(list(range(100)), None, key="key-0001", token=token, source="audit")
    ann.http.post("/samples/1/sign", data={"csrf": token})
    rows = ann.http.get("/samples/1/signed.json").json()["document"]["differential"]
    assert rows["EOS"]["leukocytes"]["flags"] == [{"unit": "percent", "flag": "high", "certain": True, "range": [0, 6]}]
    (flag,) = rows["NEU"]["leukocytes"]["flags"]
    assert (flag["unit"], flag["flag"], flag["certain"]) == ("absolute", "low", True)
    page = ann.http.get("/samples/1/signed").text
    assert "↑ percent, of 0 to 6" in page
    assert "↓ absolute, of 7.9 to 9" in page


def test_a_count_is_ready_to_sign_when_the_shares_of_the_leukocytes_are_known_too(store, mixed):
    """With errors among the cells seen, a share of two thirds of the cells is known less well than one of all."""
    opened = Opened.of(store, Sample.open(mixed), precision=0.1)
    ann, queue = local_reviewer(store, "ann"), opened.queue.tolist()
    label_cells(store, opened.id, ann, key="key-0001", rows=queue[:4], label=1, source="audit")
    of_all_first = 0
    for number in range(4, 100, 4):
        label_cells(
            store, opened.id, ann, key=f"key-1{number:03d}", rows=queue[number : number + 4], label=None, source="audit"
        )
        with store.reading() as session:
            now = standing(session, opened)
        assert now.half_width >= now.audited.half_width
        assert (now.needed == 0) == (now.half_width <= 0.1 and now.audited.audited >= 20)
        of_all_first += now.needed > 0 and now.audited.half_width <= 0.1
    assert of_all_first > 0
