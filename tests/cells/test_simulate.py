import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import LATENTS, SimulateSettings, Simulation, simulate
from leukoscope.cells.simulator.composition import PATIENT_TYPES, REFERENCE_RANGES, parse_composition
from leukoscope.cells.simulator.kinds import KINDS
from leukoscope.cells.simulator.patients import Patient, draw_patient
from leukoscope.cli.simulate import simulate as simulate_command
from leukoscope.common.errors import InputError


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    """A balanced set, small enough for a test and large enough to learn from."""
    return simulate(tmp_path_factory.mktemp("simulate") / "cells.set", cells=800, size=32, patients=5, jobs=2)


def test_pixels_depend_on_seed_and_number_only(tmp_path: Path) -> None:
    one = simulate(tmp_path / "one", cells=40, size=48, jobs=1)
    two = simulate(tmp_path / "two", cells=25, size=48, jobs=3)
    assert (one.read(slice(0, 25)) == two.read(slice(None))).all()
    assert one.cells.iloc[:25].equals(two.cells)
    other = simulate(tmp_path / "other", cells=25, size=48, seed=1)
    assert not (other.read(slice(None)) == two.read(slice(None))).all(axis=(1, 2, 3)).any()


def test_a_balanced_set_holds_every_kind_of_every_patient(annotated: CellSet) -> None:
    counts = annotated.cells.groupby(["patient", "label"]).size()
    assert (counts == 20).all()
    assert len(counts) == 5 * 8
    assert annotated.cells["cell_id"].is_unique
    assert annotated.cells.groupby("patient")["batch"].nunique().eq(1).all()
    assert set(annotated.cells["batch"]) == {"B0-1", "B0-2"}


def test_the_field_of_view_is_constant(tmp_path: Path) -> None:
    fine = simulate(tmp_path / "fine", cells=16, size=160)
    coarse = simulate(tmp_path / "coarse", cells=16, size=32)
    assert fine.info.pixel_size_um == pytest.approx(28 / 160)
    assert coarse.info.pixel_size_um == pytest.approx(28 / 32)
    binned = fine.read(slice(None))[:, 0].reshape(16, 32, 5, 32, 5).mean(axis=(2, 4))
    seen = coarse.read(slice(None))[:, 0].astype(float)
    for a, b in zip(binned, seen, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.85
    assert fine.cells[list(LATENTS)].equals(coarse.cells[list(LATENTS)])


def test_twelve_bits_are_kept_in_sixteen(tmp_path: Path) -> None:
    deep = simulate(tmp_path / "deep", cells=16, size=64, bit_depth=12)
    shallow = simulate(tmp_path / "shallow", cells=16, size=64)
    assert deep.info.dtype == "uint16"
    assert deep.info.bit_depth == 12
    assert len(np.unique(deep.read(slice(None)))) > 256
    np.testing.assert_allclose(
        deep.info.intensity.scale(deep.read(slice(None))),
        shallow.info.intensity.scale(shallow.read(slice(None))),
        atol=0.5 / 255 + 0.5 / 4095 + 1e-6,
    )


def test_a_cell_is_as_large_as_its_truth_says(annotated: CellSet) -> None:
    simulation = Simulation(SimulateSettings(cells=40, size=128, difficulty=0))
    pixels, rows = simulation.render(range(40))
    image = pixels[:, 0].astype(float)
    frame = np.ones((128, 128), bool)
    frame[10:-10, 10:-10] = False
    unrest = np.abs(image - image[:, frame].mean(axis=1)[:, None, None])
    x = (np.arange(128) + 0.5) / 128 * 28 - 14
    measured = []
    for map_, row in zip(unrest, rows, strict=True):
        radius = np.hypot(x[None, :] - row["x_um"], x[:, None] - row["y_um"])
        rings = [map_[(radius >= r) & (radius < r + 0.25)].mean() for r in np.arange(2, 12, 0.25)]
        measured.append(2 + 0.25 * int(np.argmax(rings)))
    truth = [row["diameter_um"] / 2 for row in rows]
    assert np.corrcoef(measured, truth)[0, 1] > 0.9
    assert np.abs(np.array(measured) - truth).mean() < 0.8


def test_images_pass_for_bright_field(annotated: CellSet) -> None:
    pixels = annotated.read(slice(None))[:, 0].astype(float)
    assert 120 < pixels.mean() < 180
    assert ((pixels == 0) | (pixels == 255)).mean() < 0.001
    for batch in ("B0-1", "B0-2"):
        of_batch = (annotated.cells["batch"] == batch).to_numpy()
        pixels[of_batch] -= np.median(pixels[of_batch], axis=0)
    border = np.ones((32, 32), bool)
    border[3:-3, 3:-3] = False
    inside = ~border
    assert (pixels[:, inside].std(axis=1) > 1.5 * pixels[:, border].std(axis=1)).mean() > 0.95


def test_light_is_kept_where_nothing_absorbs() -> None:
    """A phase object moves light about; only granules and what the aperture cuts off take some away."""
    from leukoscope.cells.simulator.optics import bright_field
    from leukoscope.cells.simulator.traits import Donor, draw_traits

    cells = [draw_traits(kind, Donor(), 0.0, np.random.default_rng(0)) for kind in KINDS.values()]
    light = bright_field(cells, 128).mean(axis=(1, 2))
    assert (light < 1.0).all()
    assert (light > 0.9).all()


def test_raw_pixels_do_badly_and_the_truth_does_well_but_not_perfectly(annotated: CellSet) -> None:
    labels = annotated.cells["label"].to_numpy()
    pixels = annotated.read(slice(None)).reshape(800, -1).astype(np.float32)
    pixels = (pixels - pixels.mean(axis=0)) / (pixels.std(axis=0) + 1)
    test = annotated.cells["patient"].isin(sorted(set(annotated.cells["patient"]))[:2]).to_numpy()
    traits = annotated.cells[[n for n in LATENTS if n not in ("x_um", "y_um", "angle")]].to_numpy()
    forest = RandomForestClassifier(100, random_state=0).fit(traits[~test], labels[~test])
    raw = LogisticRegression(C=1e-3, max_iter=100).fit(pixels[~test], labels[~test])
    assert 0.93 < forest.score(traits[test], labels[test]) < 1.0
    assert 0.125 < raw.score(pixels[test], labels[test]) < 0.6


def test_difficulty_widens_the_overlap() -> None:
    spread = []
    for difficulty in (0.0, 0.5, 1.0):
        simulation = Simulation(SimulateSettings(cells=160, size=16, classes=("NEU",), difficulty=difficulty))
        rows = simulation.render(range(160))[1]
        spread.append(np.std([np.log(row["granule_um"]) for row in rows]))
    assert spread[0] < 0.6 * spread[1] < 0.6 * spread[2]


def test_sets_of_one_instrument_share_its_batches_and_nothing_else() -> None:
    common = {"cells": 300, "size": 16, "patients": 10, "batches": 2}
    here = Simulation(SimulateSettings(**common, seed=1))
    again = Simulation(SimulateSettings(**common, seed=2, instrument=1))
    elsewhere = Simulation(SimulateSettings(**common, seed=2))
    assert {row["batch"] for row in again.render(range(40))[1]} == {"B1-1", "B1-2"}
    assert not {row["patient"] for row in here.render(range(40))[1]} & {
        row["patient"] for row in again.render(range(40))[1]
    }
    # All patients of a batch share lamp and camera; size and granules are their own.
    shared = ("focus_um", "brightness", "slope", "vignetting", "blur", "noise", "columns")
    for mine, same, other in zip(here.donors, again.donors, elsewhere.donors, strict=True):
        assert all(getattr(mine, name) == getattr(same, name) for name in shared)
        assert mine.size != same.size == other.size
        assert mine.focus_um != other.focus_um


def test_donors_and_batches_shift_the_cells() -> None:
    simulation = Simulation(SimulateSettings(cells=160, size=16, classes=("NEU",), patients=40, batches=4))
    pixels, rows = simulation.render(range(160))
    brightness = pixels.mean(axis=(1, 2, 3))
    batch = np.array([row["batch"] for row in rows])
    means = [brightness[batch == name].mean() for name in tuple(f"B0-{turn}" for turn in range(1, 5))]
    assert np.ptp(means) > 2
    sizes = [donor.size for donor in simulation.donors]
    assert 0.01 < np.std(sizes) < 0.05


def test_a_kind_left_out_is_absent_and_the_composition_is_followed(tmp_path: Path) -> None:
    known = simulate(tmp_path / "known", cells=70, size=16, classes=[kind for kind in KINDS if kind != "BAS"])
    assert set(known.cells["label"]) == set(KINDS) - {"BAS"}
    sample = simulate(tmp_path / "sample", cells=600, size=16, composition={"NEU": 60, "LYM": 40}, patients=1)
    shares = sample.cells["label"].value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx({"NEU": 0.6, "LYM": 0.4}, abs=0.06)
    assert set(sample.cells["patient_type"]) == {"given"}


def drawn(text: str, seed: int = 0) -> Patient:
    return draw_patient(parse_composition(text), list(KINDS.values()), np.random.default_rng(seed))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_healthy_patient_lies_within_the_reference_ranges(seed: int) -> None:
    patient = drawn("healthy", seed)
    assert sum(patient.proportions) == pytest.approx(1)
    for kind, share in zip(KINDS, patient.proportions, strict=True):
        low, high = REFERENCE_RANGES.get(kind, (0.0, 0.0))
        assert low - 1e-9 <= 100 * share <= high + 1e-9


def test_every_patient_type_can_be_drawn_and_mixed_draws_several() -> None:
    for name in PATIENT_TYPES:
        patient = drawn(name)
        assert patient.patient_type == name
        assert min(patient.proportions) >= 0
    simulation = Simulation(SimulateSettings(cells=1, composition="mixed", patients=40))
    assert len({patient.patient_type for patient in simulation.patients}) >= 6


def test_a_kind_is_added_at_its_per_cent_and_the_others_keep_their_proportions() -> None:
    plain, rare = drawn("healthy", 3), drawn("healthy+HL60=5", 3)
    shares = dict(zip(KINDS, rare.proportions, strict=True))
    assert shares.pop("HL60") == pytest.approx(0.05)
    healthy = {kind: share for kind, share in zip(KINDS, plain.proportions, strict=True) if kind != "HL60"}
    assert {kind: share / 0.95 for kind, share in shares.items()} == pytest.approx(healthy)
    assert drawn("healthy+HL60=0", 3).proportions == pytest.approx(plain.proportions)
    assert drawn("healthy+EOS=20", 3).proportions[list(KINDS).index("EOS")] == pytest.approx(0.2)


def test_a_kind_may_look_a_little_different_in_a_type_of_patient() -> None:
    changed = {kind.name: kind for kind in drawn("healthy+K562=1~NEU.granules=1.5~NEU.diameter_um=0.9").kinds}
    assert changed["NEU"].granules == pytest.approx(1.5 * KINDS["NEU"].granules)
    assert changed["NEU"].diameter_um == pytest.approx(0.9 * KINDS["NEU"].diameter_um)
    assert {name: kind for name, kind in changed.items() if name != "NEU"} == {
        name: kind for name, kind in KINDS.items() if name != "NEU"
    }
    granules = {}
    for name in ("healthy", "healthy~NEU.granules=1.5"):
        _, rows = Simulation(SimulateSettings(cells=60, size=16, composition=name, classes=("NEU",))).render(range(60))
        granules[name] = np.mean([row["granules"] for row in rows])
    assert granules["healthy~NEU.granules=1.5"] > 1.3 * granules["healthy"]


def test_patients_take_types_in_turn_and_every_batch_has_all_of_them() -> None:
    chosen = SimulateSettings(cells=24, size=16, composition=("healthy", "eosinophilia"), patients=12, batches=2)
    _, rows = Simulation(chosen).render(range(24))
    table = pd.DataFrame(rows).drop_duplicates("patient")
    assert pd.crosstab(table["batch"], table["patient_type"]).to_numpy().tolist() == [[3, 3], [3, 3]]


def test_the_verb_simulates_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate_command(tmp_path / "a.set", cells=10, size=16, classes="NEU,LYM", jobs=1, json=True)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"10 cells of 16x16 px in {tmp_path / 'a.set'}: LYM 5, NEU 5"
    assert json.loads(printed[-1])["cells"] == 10
    with pytest.raises(InputError, match="exists already; choose another name or give --overwrite"):
        simulate_command(tmp_path / "a.set", cells=10, size=16)
    simulate_command(tmp_path / "a.set", cells=4, size=16, overwrite=True)
    assert len(CellSet.open(tmp_path / "a.set")) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["NEU", "XYZ"]}, "--classes: unknown kind 'XYZ'; choose from BAS, EOS"),
        ({"classes": ["NEU", "NEU"]}, "--classes: name each kind once"),
        ({"composition": "ill"}, "--composition: unknown patient type 'ill'; choose mixed, healthy"),
        ({"composition": "NEU=60,ABC=40"}, "--composition: unknown kind 'ABC'"),
        ({"composition": "NEU=many"}, "--composition: 'NEU=many' is not KIND=AMOUNT with an amount of at least 0"),
        ({"composition": "NEU=-1"}, "--composition: 'NEU=-1' is not KIND=AMOUNT"),
        ({"composition": "NEU=0"}, "--composition: it holds none of BAS"),
        ({"composition": "healthy", "classes": ["K562"]}, "--composition: it holds none of K562"),
        ({"composition": "healthy+HL60"}, "--composition: '+HL60' is neither +KIND=PERCENT nor ~KIND.TRAIT=FACTOR"),
        ({"composition": "healthy+HL60=60+K562=41"}, "adds more than 100 per cent"),
        ({"composition": "healthy~NEU.spread=2"}, "--composition: no trait 'spread'; choose from diameter_um"),
        ({"composition": ["healthy", "sick+HL60=5"]}, "--composition: unknown patient type 'sick'; choose mixed"),
        ({"difficulty": 2.0}, "simulate: difficulty: input should be less than or equal to 1"),
        ({"bit_depth": 4}, "simulate: bit_depth: input should be greater than or equal to 8"),
        ({"size": 4}, "simulate: size: input should be greater than or equal to 16"),
    ],
)
def test_mistakes_are_said_in_one_line(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        simulate(tmp_path / "a.set", **{"cells": 4, **options})  # type: ignore[arg-type]
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "a.set").exists()


def test_balanced_and_composition_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--balanced and --composition exclude each other; give one"):
        simulate_command(tmp_path / "a.set", balanced=True, composition="healthy")


def test_a_smaller_field_is_the_middle_of_the_whole() -> None:
    whole = Simulation(SimulateSettings(cells=4, size=70)).render(range(4))[0]
    simulation = Simulation(SimulateSettings(cells=4, size=50, field_um=20))
    middle = simulation.render(range(4))[0]
    assert np.array_equal(middle, whole[:, :, 10:60, 10:60])
    assert simulation.pixel_size_um == pytest.approx(0.4)
