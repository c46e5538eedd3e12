from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from leukoscope.review.store.accounts import add_reviewer
from leukoscope.review.store.database import Store
from leukoscope.review.store.models import Action, CellRow, Event

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
PASSWORD = "correct horse battery"

pytestmark = pytest.mark.browser


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'review.db'}")
    yield opened
    opened.engine.dispose()


@pytest.fixture
def tab(browser) -> Iterator[Callable]:
    """Opens tabs, each in a browser of its own, and fails when one of them had anything to complain about."""
    contexts, said = [], []

    def new(width: int = 1280, **words):
        context = browser.new_context(viewport={"width": width, "height": 900}, **words)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if is_fault(message) else None)
        return page

    yield new
    for context in contexts:
        context.close()
    assert said == []


def is_fault(message) -> bool:
    # An answer that refuses is told to the person; the browser notes it here too.
    return message.type == "error" and not message.text.startswith("Failed to load resource")


@pytest.fixture
def ann(serving, run, store, tab):
    """The local reviewer at her first page."""
    page = tab()
    page.address = serving(run, store=store, reviewer="ann")
    page.goto(f"{page.address}/samples/1/gallery?of=0")
    return page


def press(page, keys: str, told: str) -> None:
    """Press keys, and wait until the page says what came of the last."""
    for key in keys.split():
        page.keyboard.press(key)
    page.locator("#told").get_by_text(told, exact=True).wait_for()


def labels(store: Store) -> dict[int, int]:
    with store.reading() as session:
        return dict(session.execute(select(CellRow.row, CellRow.label).where(CellRow.opinions > 0)).all())


def rows_on(page) -> list[int]:
    return [int(box.get_attribute("value")) for box in page.locator("#cells input").all()]


def test_cells_are_labelled_and_confirmed_by_keyboard_alone(ann, store):
    rows = rows_on(ann)
    called = int(ann.locator("#cells input").nth(1).get_attribute("data-predicted"))
    press(ann, "2", f"Cell {rows[0]}: LYM")
    press(ann, "Enter", f"Cell {rows[1]}: as called")
    press(ann, "0", f"Cell {rows[2]}: none of these")
    press(ann, "ArrowRight ArrowDown ArrowUp ArrowLeft ArrowLeft 3", f"Cell {rows[2]}: NEU")
    assert labels(store) == {rows[0]: 1, rows[1]: called, rows[2]: 2}
    assert ann.locator("#cells .mine").nth(0).inner_text() == "LYM"
    ann.locator("#progress").get_by_text("3 of 57 cells reviewed").wait_for()


def test_undo_goes_back_on_the_page_and_in_the_store(ann, store):
    rows = rows_on(ann)
    press(ann, "1 1", f"Cell {rows[1]}: EOS")
    press(ann, "u", "Undone: 1 cell")
    press(ann, "u u", "Nothing to undo")
    assert labels(store) == {}
    assert ann.locator("#cells .mine").all_inner_texts() == [""] * len(rows)


def test_several_are_selected_by_shift_and_arrows_and_labelled_together(ann, store):
    rows = rows_on(ann)
    press(ann, "Shift+ArrowRight Shift+ArrowRight 3", "3 cells: NEU")
    assert labels(store) == dict.fromkeys(rows[:3], 2)
    press(ann, "u", "Undone: 3 cells")
    assert labels(store) == {}


def test_a_frame_drawn_with_the_mouse_selects(ann, store):
    rows = rows_on(ann)
    first, third = (ann.locator("#cells li").nth(i).bounding_box() for i in (0, 2))
    ann.mouse.move(first["x"] + 3, first["y"] + 3)
    ann.mouse.down()
    ann.mouse.move(third["x"] + 20, third["y"] + 30, steps=4)
    ann.mouse.up()
    assert ann.locator("#cells input:checked").count() == 3
    press(ann, "1", "3 cells: EOS")
    assert labels(store) == dict.fromkeys(rows[:3], 0)


def test_similar_cells_are_found_and_relabelled_together(ann, store):
    row = rows_on(ann)[0]
    ann.keyboard.press("s")
    ann.wait_for_url(f"**/similar/{row}*")
    assert rows_on(ann)[0] == row
    press(ann, "x 2", "60 cells: LYM")
    assert set(labels(store).values()) == {1}


def test_the_audit_leads_on_to_its_next_cells(ann, store):
    ann.goto(f"{ann.address}/samples/1/audit")
    first = rows_on(ann)
    press(ann, " ".join(["Enter"] * len(first)), f"Cell {first[-1]}: as called")
    ann.keyboard.press("Enter")
    ann.wait_for_load_state()
    ann.locator("#progress").get_by_text("24 of 57 cells reviewed, 24 of them in the audit").wait_for()
    assert not set(first) & set(rows_on(ann))


def test_help_opens_by_a_key_and_closes_by_another(ann):
    ann.keyboard.press("?")
    assert ann.locator("#help").is_visible()
    ann.keyboard.press("Escape")
    assert not ann.locator("#help").is_visible()


def test_a_label_survives_a_connection_that_breaks(ann, store):
    rows = rows_on(ann)
    ann.context.set_offline(True)
    ann.keyboard.press("1")
    ann.locator("#told").get_by_text("No answer; trying again …").wait_for()
    ann.context.set_offline(False)
    ann.locator("#told").get_by_text(f"Cell {rows[0]}: EOS").wait_for()
    with store.reading() as session:
        assert session.scalars(select(Event.row)).all() == [rows[0]]


def test_two_reviewers_at_once_keep_their_own_labels_and_a_third_decides(serving, run, store, tab):
    for name in ("ann", "bob", "cleo"):
        add_reviewer(store, name, "reviewer", PASSWORD)
    address = serving(run, store=store)
    pages = {name: log_in(tab(), address, name) for name in ("ann", "bob")}
    row = rows_on(pages["ann"])[0]
    for page, key in zip(pages.values(), "12", strict=True):
        page.keyboard.press(key)
    for page in pages.values():
        page.locator("#told").get_by_text(f"Cell {row}: ").wait_for()
    press(pages["ann"], "u", "Undone: 1 cell")
    assert labels(store) == {row: 1}
    press(pages["ann"], "ArrowLeft 1", f"Cell {row}: EOS")
    assert labels(store) == {row: None}
    cleo = log_in(tab(), address, "cleo")
    cleo.goto(f"{address}/samples/1")
    cleo.get_by_role("link", name="A third reader decides").click()
    cleo.wait_for_url("**/disputes")
    assert rows_on(cleo) == [row]
    press(cleo, "2", f"Cell {row}: LYM")
    assert labels(store) == {row: 1}


def log_in(page, address: str, name: str):
    page.goto(address)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.goto(f"{address}/samples/1/gallery")
    return page


def test_a_sample_is_reviewed_and_signed_and_frozen(ann, store):
    for _ in range(3):
        ann.goto(f"{ann.address}/samples/1/audit")
        rows = rows_on(ann)
        press(ann, "x Enter", f"{len(rows)} cells: as called")
    ann.goto(f"{ann.address}/samples/1")
    assert "to within ±0.0 points" in ann.locator(".notice").inner_text()
    ann.get_by_role("button", name="Sign as ann").click()
    ann.wait_for_url("**/signed")
    assert "the store holds the labels and the history that were signed" in ann.locator("main").inner_text()
    ann.goto(f"{ann.address}/samples/1/gallery")
    assert ann.locator("[data-act=label]").count() == 0
    with store.reading() as session:
        assert len(session.scalars(select(Action)).all()) == 3


def test_a_review_teaches_and_shows_what_would_change_before_it_is_kept(serving, shifted, store, tab):
    page = tab()
    page.address = serving(shifted, store=store, reviewer="ann")
    page.goto(f"{page.address}/samples/1/audit")
    press(page, "x Enter", "24 cells: as called")
    page.goto(f"{page.address}/samples/1")
    page.get_by_role("link", name="Learn from this review").click()
    page.get_by_role("button", name="Learn from this review").click()
    page.get_by_text("Learned from 24 reviewed cells.").wait_for()
    page.get_by_role("link", name="Cells worth a look").click()
    page.wait_for_url("**/proposed")
    press(page, "Enter", f"Cell {rows_on(page)[0]}: as called")
    page.go_back()
    page.get_by_role("button", name="Keep the new classifier").click()
    page.get_by_text("Kept as run/learned-").wait_for()


@pytest.fixture
def mapped(serving, shifted, store, tab):
    """The map of a sample, drawn."""
    page = tab()
    page.address = serving(shifted, store=store, reviewer="ann")
    page.goto(f"{page.address}/samples/1/map")
    page.locator("#map[data-drawn='240']").wait_for()
    return page


def test_cells_are_gated_on_the_map_and_labelled(mapped, store):
    place = mapped.locator("#map").bounding_box()
    left, top, right, bottom = (place["x"] + 2, place["y"] + 2, place["x"] + place["width"] - 2, place["y"] + 600)
    mapped.mouse.move(left, top)
    mapped.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom)):
        mapped.mouse.move(x, y, steps=5)
    mapped.mouse.up()
    mapped.get_by_label("Name of the gate").fill("nearly all")
    mapped.get_by_role("button", name="Keep the gate").click()
    mapped.wait_for_url("**/gates/1")
    assert mapped.locator("h1").inner_text().startswith("Gate nearly all: ")
    press(mapped, "x 2", "60 cells: LYM")
    assert len(labels(store)) == 60
    mapped.goto(f"{mapped.address}/samples/1/map")
    assert mapped.get_by_role("link", name="nearly all").is_visible()
    assert not AXE.exists() or faults(mapped) == []


def test_a_label_after_another_signed_says_so(ann):
    other = ann.context.new_page()
    other.goto(f"{ann.address}/samples/1")
    other.get_by_role("checkbox").check()
    other.get_by_role("button", name="Sign as ann").click()
    other.wait_for_url("**/signed")
    with ann.expect_response("**/labels"):
        ann.keyboard.press("1")
    ann.locator("#told").get_by_text("Not saved: sample-17 is signed: its labels cannot change any more").wait_for()


PATHS = ("", "/gallery", "/gallery?of=1&zoom=2", "/gallery?blind=true", "/audit", "/disputes", "/similar/3",
         "/history/3", "/learned", "/signed")  # fmt: skip


@pytest.fixture
def used(ann):
    """Pages with something on them: a label, and a signature."""
    press(ann, "1", f"Cell {rows_on(ann)[0]}: EOS")
    ann.goto(f"{ann.address}/samples/1")
    return ann


def sign(page) -> None:
    page.goto(f"{page.address}/samples/1")
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Sign as ann").click()
    page.wait_for_url("**/signed")


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core; scripts/install-review-tools.sh installs it")
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_no_serious_fault(used, width):
    used.set_viewport_size({"width": width, "height": 900})
    addresses = [f"{used.address}/", *(f"{used.address}/samples/1{path}" for path in PATHS)]
    for address in addresses:
        if address.endswith("/signed"):
            sign(used)
        used.goto(address)
        if used.locator("[data-act=help]").count():
            used.keyboard.press("?")
            assert faults(used) == []
            used.keyboard.press("Escape")
        assert faults(used) == []


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core; scripts/install-review-tools.sh installs it")
def test_axe_finds_no_serious_fault_where_people_log_in(serving, run, store, tab):
    add_reviewer(store, "ann", "admin", PASSWORD)
    page = tab()
    page.goto(serving(run, store=store))
    assert faults(page) == []


def faults(page) -> list[tuple[str, str]]:
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]


def test_a_phone_shows_every_page_without_scrolling_sideways(used):
    # Cells of 16 pixels are 320 wide at the greatest zoom.
    for width, paths in ((390, PATHS), (320, ["/gallery?zoom=4"])):
        used.set_viewport_size({"width": width, "height": 800})
        for path in paths:
            if path == "/signed":
                sign(used)
            used.goto(f"{used.address}/samples/1{path}")
            inside, window = used.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
            assert inside <= window, path


def test_a_phone_labels_by_touch(serving, run, store, tab):
    phone = tab(width=390, has_touch=True, is_mobile=True)
    phone.goto(f"{serving(run, store=store, reviewer='ann')}/samples/1/audit")
    rows = rows_on(phone)
    phone.locator("#cells li").nth(1).tap()
    phone.get_by_role("button", name="NEU").tap()
    phone.locator("#told").get_by_text(f"Cell {rows[1]}: NEU").wait_for()
    assert labels(store) == {rows[1]: 2}


def test_a_signed_report_prints_on_paper(used):
    sign(used)
    used.emulate_media(media="print")
    assert not used.locator(".who").is_visible()
    assert used.pdf(format="A4").startswith(b"%PDF")
