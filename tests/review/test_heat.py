import io

import numpy as np
from PIL import Image

from leukoscope.review.store.database import Store

from .conftest import Browserless


def test_heat_is_drawn_on_demand_at_the_size_of_the_cell(serving, shifted, tmp_path):
    ann = Browserless(serving(shifted))
    page = ann.http.get("/samples/1/history/3?heat=true").text
    address = "/samples/1/cells/3/heat.png"
    assert address in page
    drawn = [
        np.asarray(Image.open(io.BytesIO(ann.http.get(f"/samples/1/cells/{row}/heat.png").content))) for row in range(8)
    ]
    assert {image.shape for image in drawn} == {(24, 24, 3)}
    # Of weights that are random, some cells have nothing that speaks for their class.
    assert any((image.max(axis=2) != image.min(axis=2)).any() for image in drawn)


def test_a_sample_whose_encoder_is_unknown_says_so(serving, run):
    ann = Browserless(serving(run))
    answer = ann.http.get("/samples/1/cells/3/heat.png", headers={"Accept": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"].endswith("sample-17: does not say where its encoder lay")


def test_a_blind_review_shows_no_heat(serving, shifted, tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'blind.db'}")
    ann = Browserless(serving(shifted, store=store, blind=True))
    assert "heat" not in ann.http.get("/samples/1/history/3?heat=true").text
    assert ann.http.get("/samples/1/cells/3/heat.png").status_code == 403
