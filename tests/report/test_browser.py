from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser


def open_page(browser, path: Path, width: int) -> Iterator:
    """The page in a browser, with everything that it asked for and said."""
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.asked, tab.said = [], []
    tab.on("request", lambda asked: tab.asked.append(asked.url))
    tab.on("console", lambda message: tab.said.append(message.text))
    tab.on("pageerror", lambda error: tab.said.append(str(error)))
    tab.goto(path.as_uri())
    yield tab
    tab.close()


WIDTHS = {"params": [1280, 390], "ids": ["desktop", "phone"]}


@pytest.fixture(**WIDTHS)
def evaluated(request, browser, page: Path) -> Iterator:
    yield from open_page(browser, page, request.param)


@pytest.fixture(params=["page", "explanation"])
def path(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def explanation(explained: Path) -> Path:
    return explained / "report.html"


@pytest.fixture(**WIDTHS)
def opened(request, browser, path: Path) -> Iterator:
    yield from open_page(browser, path, request.param)


def test_nothing_is_asked_of_the_network_and_nothing_goes_wrong(opened, path):
    beyond = [address for address in opened.asked if not address.startswith("data:")]
    assert beyond == [path.as_uri()]
    assert opened.said == []


def test_the_page_does_not_scroll_sideways(opened):
    inside, window = opened.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert inside <= window


def test_every_picture_is_drawn_and_has_words(opened):
    assert opened.evaluate("document.images.length") >= 6
    assert opened.evaluate("[...document.images].filter(i => !i.naturalWidth || !i.alt).length") == 0


def test_cells_of_twelve_bits_are_bright_on_the_page(evaluated):
    brightest = evaluated.evaluate(
        """() => {
          const image = document.querySelector('.cells img');
          const canvas = Object.assign(document.createElement('canvas'), {width: 40, height: 40});
          const pen = canvas.getContext('2d');
          pen.drawImage(image, 0, 0);
          return Math.max(...pen.getImageData(0, 0, 40, 40).data.filter((_, i) => i % 4 === 0));
        }"""
    )
    assert brightest > 180


def test_headings_go_down_step_by_step_and_the_contents_lead_somewhere(opened):
    levels = opened.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert opened.evaluate("[...document.querySelectorAll('a')].every(a => document.querySelector(a.hash))")
    assert opened.evaluate("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == opened.evaluate(
        "document.querySelectorAll('[id]').length"
    )
