import io

import httpx
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import create_engine, text

from leukoscope.review.store.accounts import MOST_FAILURES, add_reviewer
from leukoscope.review.store.database import Store

from .conftest import Browserless, write_run

PASSWORD = "correct horse battery"


@pytest.fixture
def ann(serving, run) -> Browserless:
    """The local reviewer."""
    return Browserless(serving(run, reviewer="ann"))


@pytest.fixture
def laboratory(serving, run, tmp_path) -> str:
    """A server where people log in."""
    store = Store.open(f"sqlite:///{tmp_path / 'laboratory.db'}")
    add_reviewer(store, "ann", "admin", PASSWORD)
    add_reviewer(store, "bob", "reviewer", PASSWORD)
    return serving(run, store=store)


PAGES = (
    "/",
    "/samples/1",
    "/samples/1/gallery",
    "/samples/1/gallery?of=1&sort=novelty&unseen=true",
    "/samples/1/gallery?of=-1",
    "/samples/1/audit",
    "/samples/1/disputes",
    "/samples/1/similar/3",
    "/samples/1/history/3",
)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_under_a_strict_policy(ann, path):
    answer = ann.http.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "style=" not in answer.text
    assert "http://" not in answer.text.replace("http://www.w3.org", "")


@pytest.mark.parametrize("path", PAGES)
def test_where_people_log_in_nothing_is_shown_before(laboratory, path):
    stranger = Browserless(laboratory)
    answer = stranger.http.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert stranger.http.get(path, headers={"Accept": "application/json"}).status_code == 401
    assert stranger.http.get("/samples/1/cells/0.png", headers={"Accept": "image/png"}).status_code == 401


def test_people_log_in_label_and_log_out(laboratory):
    ann = Browserless(laboratory)
    assert ann.log_in("ann", "wrong").status_code == 403
    answer = ann.log_in("ann", PASSWORD)
    cookie = answer.headers["set-cookie"].lower()
    assert answer.status_code == 303
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    token = ann.token()
    assert ann.label([0], 1, key="key-0001", token=token).json() == {"labels": {"0": 1}}
    assert "Log out" in ann.http.get("/").text
    assert ann.http.post("/logout", data={"csrf": token}).status_code == 303
    assert ann.label([1], 1, key="key-0002", token=token).status_code == 401


def test_too_many_failed_logins_wait(laboratory):
    ann = Browserless(laboratory)
    for _ in range(MOST_FAILURES):
        ann.log_in("ann", "wrong")
    answer = ann.log_in("ann", PASSWORD)
    assert answer.status_code == 429
    assert "Too many failed attempts; wait 15 minutes." in answer.text


def test_signing_asks_for_the_password_once_more(laboratory):
    bob = Browserless(laboratory)
    bob.log_in("bob", PASSWORD)
    form = {"csrf": bob.token(), "unproved": "true"}
    assert bob.http.post("/samples/1/sign", data={**form, "password": "wrong"}).status_code == 403
    assert bob.http.get("/samples/1/signed").status_code == 404
    assert bob.http.post("/samples/1/sign", data={**form, "password": PASSWORD}).status_code == 303
    assert "Signed although the audit had not" in bob.http.get("/samples/1/signed").text


def test_next_cells_follow_through_a_whole_gallery_as_its_form_asks_for_it(serving, tmp_path):
    ann = Browserless(serving(write_run(tmp_path / "sample", 150)))
    address, rows = "/samples/1/gallery?of=&sort=doubt&low=0&high=100&zoom=1", []
    while address:
        page = ann.http.get(address).text
        rows += [int(part.partition('"')[0]) for part in page.split('name="row" value="')[1:]]
        link = page.partition('<a id="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        address = "/samples/1/gallery" + link if link else ""
    assert sorted(rows) == list(range(150))


@pytest.mark.parametrize("token", ["", "x" * 43, "é"])
def test_a_forged_request_is_refused(ann, token):
    body = {"key": "key-0001", "rows": [0], "label": 1, "source": "gallery"}
    headers = {"X-CSRF-Token": token.encode(), "Accept": "application/json"}
    assert ann.http.post("/samples/1/labels", json=body, headers=headers).status_code == 403
    assert ann.http.post("/samples/1/undo", json={"key": "key-0002"}, headers=headers).status_code == 403
    assert ann.http.post("/samples/1/sign", data={"csrf": token, "unproved": "true"}).status_code == 403
    assert "0 of 57 cells reviewed" in ann.http.get("/samples/1/progress").json()["words"]


def test_another_site_is_refused_even_with_a_token(ann):
    ann.http.headers["Origin"] = "http://elsewhere.example"
    answer = ann.label([0], 1, key="key-0001", token=ann.token())
    assert (answer.status_code, answer.text) == (403, "another site sent this")


def test_another_name_of_this_machine_is_refused(ann):
    answer = ann.http.get("/", headers={"Host": "rebound.example:8765"})
    assert answer.status_code == 421


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (None, "the request: is needed"),
        ({"key": "key-0001"}, "rows: is needed"),
        ({"key": "key-0001", "rows": [-1], "label": 1, "source": "audit"}, "rows.0: give 0 or more"),
    ],
)
def test_a_body_that_is_not_as_asked_for_is_refused_in_one_line(ann, body, told):
    headers = {"X-CSRF-Token": ann.token(), "Accept": "application/json"}
    answer = ann.http.post("/samples/1/labels", json=body, headers=headers)
    assert (answer.status_code, answer.json()) == (422, {"error": told})


def test_a_body_that_is_too_large_is_refused(ann):
    answer = ann.http.post("/samples/1/labels", content=b"x" * (1 << 20 | 1))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path",
    ["/static/../web/app.py", "/static/..%2fweb%2fapp.py", "/static/%2e%2e/serve.py", "/static/report.css%00.py",
     "/samples/1/cells/../../../sample.json.png", "/samples/1/cells/%2e%2e%2fsample.png", "/samples/1/cells/1e3.png",
     "/samples/../sample.json", "/samples/1/cells/99999.png", "/samples/1/cells/-1.png", "/samples/1/labels.csv/../x"],
)  # fmt: skip
def test_no_path_of_a_client_leads_to_the_disk(ann, path):
    address = str(ann.http.base_url).rstrip("/")
    # As written: httpx would tidy the dots away before it asks.
    request = httpx.Request("GET", address)
    request.url = httpx.URL(address).copy_with(raw_path=path.encode())
    answer = ann.http.send(request)
    assert answer.status_code in (404, 422)
    assert b"def " not in answer.content


def test_a_thumbnail_is_drawn_once_and_kept_for_ever(ann):
    page = ann.http.get("/samples/1/gallery").text
    address = page.partition('<img src="')[2].partition('"')[0].replace("&amp;", "&")
    answer = ann.http.get(address)
    assert answer.headers["content-type"] == "image/png"
    assert "immutable" in answer.headers["cache-control"]
    assert ann.http.get(address, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert "immutable" not in ann.http.get("/samples/1/cells/3.png?v=another").headers["cache-control"]


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_cells_of_any_depth_are_bright_and_contrast_spreads_them(serving, tmp_path, bits):
    ann = Browserless(serving(write_run(tmp_path / "sample", 12, bits=bits)))

    def drawn(asked: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(ann.http.get(f"/samples/1/cells/0.png?{asked}").content)))

    assert 180 < drawn("").max() < 210
    assert drawn("low=0&high=50").max() == 255
    assert drawn("low=40&high=100").min() == 0
    assert ann.http.get("/samples/1/cells/0.png?low=60&high=40").status_code == 422


def test_a_blind_review_shows_neither_predictions_nor_the_labels_of_others(serving, run, tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'blind.db'}")
    bob = Browserless(serving(run, store=store, reviewer="bob"))
    bob.label([0], 1, key="key-0001", token=bob.token())
    ann = Browserless(serving(run, store=store, reviewer="ann", blind=True))
    for path in ("/samples/1", "/samples/1/gallery?of=1&blind=false", "/samples/1/audit", "/samples/1/history/0"):
        page = ann.http.get(path).text
        assert "data-predicted" not in page
        assert "data-mine" not in page
        assert ">Called" not in page
        assert "bob" not in page.partition("</header>")[2]
    assert ann.http.get("/samples/1/labels.csv").status_code == 403
    confirmed = ann.label([1], None, key="key-0002", token=ann.token())
    assert confirmed.status_code == 403
    assert "blind" in confirmed.text


def test_a_blind_review_shows_a_signed_report_to_who_signed_it_alone(serving, run, tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'blind.db'}")
    bob = Browserless(serving(run, store=store, reviewer="bob", blind=True))
    bob.http.post("/samples/1/sign", data={"csrf": bob.token(), "unproved": "true"})
    assert bob.http.get("/samples/1/signed").status_code == 200
    assert "/signed" in bob.http.get("/samples/1").text
    ann = Browserless(serving(run, store=store, reviewer="ann", blind=True))
    answer = ann.http.get("/samples/1/signed")
    assert answer.status_code == 403
    assert "This review is blind, and the report would tell what others said." in answer.text
    page = ann.http.get("/samples/1").text
    assert "/signed" not in page
    assert "labels.csv" not in page


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/samples/2", 404, "Sample 2 is not open here; start leukoscope review with its folder."),
        ("/samples/1/gallery?of=7", 404, "There is no such class."),
        ("/samples/1/gallery?after=zero", 400, "after: not the end of a page; start from the first page."),
        ("/samples/1/gallery?low=50&high=20", 422, "Contrast: the lower end must be below the upper one."),
        ("/samples/1/gallery?low=&high=20", 422, "Dark end: give a whole number."),
        ("/samples/1/gallery?high=101", 422, "Bright end: give 100 or less."),
        (
            "/samples/1/gallery?sort=size",
            422,
            "Sort: give &#39;doubt&#39;, &#39;novelty&#39;, &#39;chance&#39; or &#39;attention&#39;.",
        ),
        ("/samples/1/signed", 404, "The sample sample-17 is not signed."),
        ("/samples/1/similar/600", 404, "Cell 600: the sample has no such cell."),
        ("/nothing", 404, "Not Found."),
    ],
)
def test_what_went_wrong_is_told_in_one_line(ann, path, status, words):
    answer = ann.http.get(path)
    assert (answer.status_code, f'<p role="alert">{words}</p>' in answer.text) == (status, True)


@pytest.mark.parametrize("path", [f"/samples/1/history/{10**30}", f"/samples/1/cells/{10**30}.png"])
def test_a_number_beyond_every_store_is_refused_and_not_looked_up(ann, path):
    assert ann.http.get(path).status_code in (404, 422)


def test_an_open_review_shows_what_others_settled_on(serving, run, tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'open.db'}")
    bob = Browserless(serving(run, store=store, reviewer="bob"))
    bob.label([0], 1, key="key-0001", token=bob.token())
    ann = Browserless(serving(run, store=store, reviewer="ann"))
    of = "/samples/1/similar/0"
    assert ">others: LYM</span>" in ann.http.get(of).text
    assert "others: LYM" not in bob.http.get(of).text
    assert "others: LYM" not in ann.http.get(f"{of}?blind=true").text


def test_a_third_reader_finds_their_decision_as_their_own_label(serving, run, tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'disputed.db'}")
    for name, label, source in (("ann", 0, "gallery"), ("bob", 1, "gallery"), ("cleo", 2, "dispute")):
        who = Browserless(serving(run, store=store, reviewer=name))
        assert who.label([3], label, key=f"key-{name}-1", token=who.token(), source=source).status_code == 200
    page = who.http.get("/samples/1/similar/3").text
    assert 'value="3" data-predicted' in page
    assert 'data-mine="2"' in page.partition('value="3" ')[2].partition(">")[0]


def test_a_signed_sample_answers_with_409(ann):
    token = ann.token()
    ann.http.post("/samples/1/sign", data={"csrf": token, "unproved": "true"})
    answer = ann.label([0], 1, key="key-0001", token=token)
    assert answer.status_code == 409
    assert answer.json() == {"error": "sample-17 is signed: its labels cannot change any more"}
    again = ann.http.post("/samples/1/sign", data={"csrf": token, "unproved": "true"})
    assert '<p role="alert">sample-17 is signed already.</p>' in again.text
    assert "Signed by ann" in ann.http.get("/samples/1").text


def test_a_change_behind_the_page_is_told_when_the_signature_is_checked_again(serving, run, tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'signed.db'}")
    ann = Browserless(serving(run, store=store, reviewer="ann"))
    ann.http.post("/samples/1/sign", data={"csrf": ann.token(), "unproved": "true"})
    page = ann.http.get("/samples/1/signed").text
    assert "the store holds the labels and the history that were signed" in page
    with store.writing() as session:
        session.execute(text("UPDATE cells SET label = 0 WHERE row = 3"))
    assert ann.http.get("/samples/1/signed").text == page
    assert "does not hold what was signed" in ann.http.get("/samples/1/signed?check=true").text
    assert "does not hold what was signed" in ann.http.get("/samples/1/signed").text


def test_labels_are_exported_from_the_page(ann):
    ann.label([0, 1], 2, key="key-0001", token=ann.token())
    answer = ann.http.get("/samples/1/labels.csv")
    assert answer.headers["content-disposition"] == "attachment; filename=labels.csv"
    assert [line.split(",")[1:3] for line in answer.text.splitlines()[1:]] == [["NEU", "ann"]] * 2


def test_a_page_beyond_every_store_is_refused(serving, store, run):
    ann = Browserless(serving(run, store=store, reviewer="ann"))
    answer = ann.http.get(f"/samples/1/gallery?of=0&after=0.5:{10**20}")
    assert answer.status_code == 400
    assert "not the end of a page; start from the first page." in answer.text


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_what_the_store_cannot_keep_is_refused_in_one_line(serving, store, run):
    ann = Browserless(serving(run, store=store, reviewer="ann"))
    answer = ann.label([0], 1, key="key-\0-0001", token=ann.token())
    words = "the store cannot keep what was sent; leave out what is no writing"
    assert (answer.status_code, answer.json()) == (400, {"error": words})
    assert ann.label([0], 1, key="key-0001", token=ann.token()).status_code == 200
    add_reviewer(store, "ann", "admin", PASSWORD)
    stranger = Browserless(serving(run, store=store))
    assert stranger.log_in("an\0n", PASSWORD).status_code == 400
    assert stranger.log_in("ann", PASSWORD).status_code == 303


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_store_that_is_away_is_told_in_one_line_until_it_is_back(serving, store, run, postgresql, caplog):
    ann = Browserless(serving(run, store=store, reviewer="ann"))
    token, name = ann.token(), store.engine.url.database
    admin = create_engine(postgresql.replace("://", "+psycopg://") + "/postgres", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
    answer = ann.http.get("/samples/1")
    assert answer.status_code == 503
    assert "The store cannot be reached at the moment; try again." in answer.text
    assert ann.label([0], 1, key="key-0001", token=token).status_code == 503
    assert "not currently accepting connections" in caplog.text
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    admin.dispose()
    assert ann.label([0], 1, key="key-0001", token=token).status_code == 200
