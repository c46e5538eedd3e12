import json
from pathlib import Path

import numpy as np
import pytest
from fhir.resources.R4B.bundle import Bundle

from leukoscope.differential.counts import CountOptions, count
from leukoscope.differential.fhir import fhir_bundle
from leukoscope.differential.ranges import ReferenceRanges

from .conftest import plain_classifier

CLASSES = ("EOS", "LYM", "NEU", "K562", "platelet")
ISSUED = "2026-03-01T12:00:00+00:00"


def counted(options: CountOptions) -> dict:
    called = np.repeat(np.arange(5), [60, 120, 280, 20, 20])
    probabilities = np.where(np.arange(5) == called[:, None], 0.8, 0.05)
    confusion = np.full((5, 5), 2) + np.eye(5, dtype=int) * 190
    return count(probabilities, plain_classifier(CLASSES, confusion), options)


@pytest.fixture(scope="module")
def differential() -> dict:
    return counted(CountOptions(total=8.0))


def test_it_is_a_bundle_that_the_reference_models_accept(differential: dict) -> None:
    bundle = fhir_bundle(differential, "abc", ISSUED, ranges=ReferenceRanges.read())
    parsed = Bundle.model_validate_json(json.dumps(bundle))
    report = parsed.entry[0].resource
    assert report.status == "preliminary"
    addresses = {entry.fullUrl for entry in parsed.entry}
    assert {each.reference for each in report.result} == addresses - {parsed.entry[0].fullUrl}
    # Four kinds of leukocytes, each as a share and in all; the platelets are none.
    assert len(parsed.entry) == 1 + 2 * 4


def test_values_intervals_ranges_and_codes_are_those_of_the_count(differential: dict) -> None:
    bundle = fhir_bundle(differential, "abc", ISSUED, ranges=ReferenceRanges.read())
    found = {entry["resource"]["code"].get("text"): entry["resource"] for entry in bundle["entry"][1:]}
    eosinophils, share = found["EOS"], differential["classes"]["EOS"]["leukocytes"]
    assert eosinophils["code"]["coding"][0]["code"] == "26450-7"
    assert eosinophils["valueQuantity"]["value"] == pytest.approx(100 * share["value"], abs=1e-3)
    assert [part["valueQuantity"]["value"] for part in eosinophils["component"]] == pytest.approx(
        [100 * share["low"], 100 * share["high"]], abs=1e-3
    )
    assert eosinophils["interpretation"][0]["coding"][0]["code"] == "H"
    assert "note" not in eosinophils
    assert found["LYM"]["interpretation"][0]["coding"][0]["code"] == "N"
    assert "coding" not in found["K562"]["code"]
    assert "referenceRange" not in found["K562"]
    assert found["NEU, absolute"]["valueQuantity"]["code"] == "10*9/L"


def test_a_value_that_is_not_certainly_outside_its_range_says_so(differential: dict, tmp_path: Path) -> None:
    share = differential["classes"]["EOS"]["leukocytes"]
    # Just below the value, so that the interval reaches far into the range.
    (tmp_path / "ranges.csv").write_text(f"class,low,high,unit\nEOS,0,{100 * share['value'] - 0.1},percent\n")
    ranges = ReferenceRanges.read(tmp_path / "ranges.csv")
    told = fhir_bundle(counted(CountOptions(ranges=ranges)), "abc", ISSUED, ranges=ranges)
    bundle = Bundle.model_validate_json(json.dumps(told))
    eosinophils = next(entry.resource for entry in bundle.entry if entry.resource.code.text == "EOS")
    assert eosinophils.interpretation[0].coding[0].code == "H"
    words = "High, not certainly: the 95 % interval reaches into the reference range."
    assert [note.text for note in eosinophils.note] == [words]


def test_the_same_sample_has_the_same_identifiers(differential: dict) -> None:
    first, again, other = (fhir_bundle(differential, name, ISSUED) for name in ("abc", "abc", "def"))
    assert first == again
    assert not {e["fullUrl"] for e in first["entry"]} & {e["fullUrl"] for e in other["entry"]}
