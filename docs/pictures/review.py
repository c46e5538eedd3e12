"""Draw docs/pictures/review-*.png: pages of the demonstration's review, in Debian's chromium.

Command: .venv/bin/python docs/pictures/review.py demo/samples/patient

The sample's cells are labelled in truth, so that the audit is gone through as by a person who knows, and signed.
Without an argument, a sample is simulated, embedded by an encoder of random weights and classified, for the look alone.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from leukoscope.differential.sample import Sample

HERE = Path(__file__).parent
OUTLINE = ((0.1, 0.1), (0.45, 0.08), (0.5, 0.4), (0.3, 0.5), (0.1, 0.4), (0.1, 0.1))


def make_run(folder: Path) -> Path:
    from leukoscope.cells.cellset import CellSet
    from leukoscope.encoders.bundle import random_encoder

    call("simulate", folder / "training.set", "--cells", 400, "--size", 48, "--seed", 1)
    call("simulate", folder / "sample.set", "--cells", 400, "--size", 48, "--seed", 2)
    random_encoder("resnet18", CellSet.open(folder / "training.set"), size=48, seed=0).save(folder / "encoder")
    call("embed", folder / "training.set", folder / "encoder", folder / "training.h5ad")
    call("fit", folder / "training.h5ad", folder / "classifier")
    call("classify", folder / "sample.set", folder / "encoder", folder / "classifier", folder / "sample-17")
    return folder / "sample-17"


def call(*words: object) -> None:
    subprocess.run([*command(), *map(str, words)], check=True)


def command() -> list[str]:
    return [sys.executable, "-c", "from leukoscope.cli.main import run; run()"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        run = Path(sys.argv[1]) if len(sys.argv) > 1 else make_run(Path(folder))
        words = ["review", str(run), "--store", f"sqlite:///{folder}/review.db", "--port", "0", "--no-browser"]
        words += ["--reviewer", "ann", "--points", "5"]
        server = subprocess.Popen([*command(), *words], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        address = server.stdout.readline().split()[2] + "samples/1"
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.goto(f"{address}/gallery?of=0")
        for key in ("1", "Enter", "2", "Shift+ArrowRight", "Shift+ArrowRight"):
            page.keyboard.press(key)
        page.locator("#progress").get_by_text("3 of ").wait_for()
        page.screenshot(path=HERE / "review-gallery.png")
        draw_gate(page, address)
        page.screenshot(path=HERE / "review-map.png")
        audit(page, address, Sample.open(run))
        page.screenshot(path=HERE / "review-sample.png")
        page.get_by_role("button", name="Sign as ann").click()
        page.goto(f"{address}/signed")
        page.screenshot(path=HERE / "review-signed.png")
        browser.close()
        server.terminate()
        server.wait()


def draw_gate(page: Page, address: str) -> None:
    """An outline around the upper left of the map, kept under a name."""
    page.goto(f"{address}/map")
    page.wait_for_load_state("networkidle")
    box = page.locator("#map").bounding_box()
    assert box is not None
    for place, (across, down) in enumerate(OUTLINE):
        page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"], steps=4)
        if place == 0:
            page.mouse.down()
    page.mouse.up()
    page.get_by_label("Name of the gate").fill("to look at")
    page.get_by_role("button", name="Keep the gate").click()
    page.goto(f"{address}/map")
    page.wait_for_load_state("networkidle")


def audit(page: Page, address: str, sample: Sample) -> None:
    """Label the cells of the audit as they are in truth, until the count is known to the points asked for."""
    truth = sample.cellset.cells["label"].to_list()
    while True:
        page.goto(address)
        if page.locator(".notice").get_by_text("can be signed").count():
            return
        page.goto(f"{address}/audit")
        for box in page.locator("#cells input").all():
            row = int(box.get_attribute("value") or -1)
            page.keyboard.press(str(sample.classes.index(truth[row]) + 1))
            page.locator("#told").get_by_text(f"Cell {row}").wait_for()


if __name__ == "__main__":
    main()
