"""Draw docs/pictures/report.png: the upper part of the demonstration's report, in Debian's chromium.

Command: make demo && .venv/bin/python docs/pictures/report.py
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

REPORT = Path("demo/tasks/kinds/report.html")
PICTURE = Path(__file__).with_name("report.png")


def main() -> None:
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        page = browser.new_page(viewport={"width": 1100, "height": 1400})
        page.goto(REPORT.resolve().as_uri())
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
