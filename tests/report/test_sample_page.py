import json
from pathlib import Path

import numpy as np
import pytest

from leukoscope.cells.simulate import simulate
from leukoscope.common.errors import InputError
from leukoscope.differential.classify import classify
from leukoscope.differential.counts import CountOptions
from leukoscope.differential.fit import fit
from leukoscope.encoders.bundle import random_encoder
from leukoscope.encoders.embed import embed
from leukoscope.report.sample_page import write_sample_report


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample that holds neutrophils, lymphocytes and a tenth of black images, of which some are set aside."""
    folder = tmp_path_factory.mktemp("sample")
    taught = simulate(folder / "taught.set", cells=240, size=32, classes=("NEU", "LYM"), seed=1)
    encoder = random_encoder("resnet18", taught, size=32, seed=0)
    classifier = fit(embed(taught, encoder, device="cpu"), folder / "classifier", cells=taught, false_alarm=0.1)
    cells = simulate(folder / "sample.set", cells=80, size=32, classes=("NEU", "LYM"), seed=2)
    pixels = np.load(cells.path / "images.npy")
    pixels[::10] = 128
    np.save(cells.path / "images.npy", pixels)
    sample, asked = type(cells).open(cells.path), CountOptions(total=7.5)
    classify(sample, encoder, classifier, folder / "run", options=asked, fhir=True, device="cpu")
    return folder / "run"


def test_the_page_tells_the_count_and_shows_the_cells(run: Path) -> None:
    page = write_sample_report(run).read_text(encoding="utf-8")
    differential = json.loads((run / "differential.json").read_text())
    assert f"{differential['n']:,} cells were counted" in page
    assert differential["set_aside"]["empty"] >= 8
    assert "Images that were not counted" in page
    for words in (
        "of the patient",
        "expectation-maximisation",
        "10⁹/L",
        "Rümke",
        "linear discriminants",
        "worth, for a new patient",
    ):
        assert words in page
    assert "For research use only" in page
    for drawn in ("differential.svg", "novelty.svg", "plane.png"):
        assert (run / "figures" / drawn).is_file()
    for name, row in differential["classes"].items():
        assert name in page
        assert f"{100 * row['corrected_proportion']:.1f}" in page


def test_where_nobody_looked_for_spoiled_images_the_page_says_so(tmp_path: Path) -> None:
    cells = simulate(tmp_path / "taught.set", cells=240, size=32, classes=("NEU", "LYM"), seed=1)
    encoder = random_encoder("resnet18", cells, size=32, seed=0)
    features = embed(cells, encoder, device="cpu")
    for name, looked_at in (("without", None), ("with", cells)):
        classifier = fit(features, tmp_path / f"{name}-classifier", cells=looked_at, false_alarm=0.1)
        classify(cells.select(np.arange(30)), encoder, classifier, tmp_path / name, device="cpu")
        page = write_sample_report(tmp_path / name).read_text(encoding="utf-8")
        for words in ("Nobody looked for spoiled images", "Spoiled images were not looked for"):
            assert (words in page) == (name == "without")


def test_the_page_asks_nothing_of_the_network(run: Path) -> None:
    page = write_sample_report(run).read_text(encoding="utf-8")
    for word in ("http://", "https://", "<script", "@import"):
        assert word not in page.replace("http://www.w3.org", "")


def test_what_is_no_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no classified sample"):
        write_sample_report(tmp_path)
