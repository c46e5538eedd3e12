import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.counts import CountOptions
from leukoscope.differential.fit import fit
from leukoscope.differential.learn import learn
from leukoscope.differential.leukocytes import Leukocytes
from leukoscope.differential.many import classify_each
from leukoscope.differential.sample import Sample
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.features import Features


@pytest.fixture(scope="module")
def bundles(encoder: Encoder, features: Features, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("many")
    encoder.save(folder / "encoder")
    fit(features, folder / "classifier")
    return folder / "encoder", folder / "classifier"


def test_each_patient_is_a_sample_and_a_call_cut_off_goes_on(
    training_set: CellSet, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    cut_off = classify_each(training_set, *bundles, tmp_path / "out", by="patient", device="cpu")
    first = next(cut_off)
    cut_off.close()
    made = (first / "results.json").stat().st_mtime_ns
    assert not (tmp_path / "out" / "differentials.csv").exists()
    done = list(classify_each(training_set, *bundles, tmp_path / "out", by="patient", device="cpu"))
    assert [path.name for path in done] == [f"P{number}" for number in range(10)]
    assert (first / "results.json").stat().st_mtime_ns == made
    table = pd.read_csv(tmp_path / "out" / "differentials.csv")
    assert len(table) == 30
    assert table.groupby("sample")["count"].sum().eq(30).all()
    for share in ("share", "leukocytes_share"):
        assert table.groupby("sample")[share].sum().to_numpy() == pytest.approx(1)


def test_bundles_are_loaded_once_and_what_is_whole_is_left_and_said(
    training_set: CellSet, bundles: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = training_set.select(training_set.column("patient").isin(["P1", "P2"]).to_numpy())
    encoder = tmp_path / "encoder"
    shutil.copytree(bundles[0], encoder)
    samples = classify_each(cells, encoder, bundles[1], tmp_path / "out", by="patient", device="cpu")
    next(samples)
    shutil.rmtree(encoder)
    second = next(samples)
    assert Sample.open(second).info.encoder == str(encoder)
    assert list(samples) == []
    assert "left as it is" not in caplog.text
    list(classify_each(cells, *bundles, tmp_path / "out", by="patient", device="cpu", batch=7))
    for name in ("P1", "P2"):
        assert f"{tmp_path / 'out' / name}: whole, of the same cells and options; left as it is" in caplog.text


def test_a_sample_of_other_cells_or_options_is_refused(
    training_set: CellSet, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    cells = training_set.where("patient=P1")
    list(classify_each(cells, *bundles, tmp_path / "out", by="patient", device="cpu"))
    fewer = cells.select(np.arange(len(cells) - 1))
    said = CountOptions(leukocytes=Leukocytes({"EOS": False}))
    for given, options in ((fewer, CountOptions()), (cells, CountOptions(seed=1)), (cells, said)):
        with pytest.raises(InputError, match=r"P1: is of other cells or options; give --overwrite"):
            list(classify_each(given, *bundles, tmp_path / "out", by="patient", options=options, device="cpu"))
    learn(Classifier.load(bundles[1]), np.zeros((20, 512), np.float32), np.full(20, 1)).save(tmp_path / "learned")
    with pytest.raises(InputError, match=r"P1: was called by another classifier; give --overwrite"):
        list(classify_each(cells, bundles[0], tmp_path / "learned", tmp_path / "out", by="patient", device="cpu"))
    list(classify_each(fewer, *bundles, tmp_path / "out", by="patient", device="cpu", overwrite=True))
    assert len(Sample.open(tmp_path / "out" / "P1").table) == len(fewer)


def test_a_name_that_is_no_folder_and_a_missing_column_are_refused(
    training_set: CellSet, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no column 'visit'"):
        next(classify_each(training_set, *bundles, tmp_path / "out", by="visit"))
    strange = CellSet(training_set.path, training_set.info, training_set.cells.assign(patient="../P1"))
    with pytest.raises(InputError, match=r"patient '\.\./P1' cannot be the name of a folder"):
        next(classify_each(strange, *bundles, tmp_path / "out", by="patient"))
    nobody = CellSet(training_set.path, training_set.info, training_set.cells.assign(patient=None))
    with pytest.raises(InputError, match="the column 'patient' names no sample"):
        next(classify_each(nobody, *bundles, tmp_path / "out", by="patient"))
