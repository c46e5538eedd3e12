"""Draw docs/pictures/review-gallery.png: a page of the demonstration's review, in Debian's chromium.

Command: .venv/bin/python docs/pictures/review.py [RUN]

Without RUN, a sample is simulated, embedded by an encoder of random weights and classified, for the look alone.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent


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
        server = subprocess.Popen([*command(), *words, "--reviewer", "ann"], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        address = server.stdout.readline().split()[2]
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.goto(f"{address}samples/1/gallery?of=0")
        for key in ("1", "Enter", "2", "Shift+ArrowRight", "Shift+ArrowRight"):
            page.keyboard.press(key)
        page.locator("#progress").get_by_text("3 of ").wait_for()
        page.screenshot(path=HERE / "review-gallery.png")
        browser.close()
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
