from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.audit import audit
from leukoscope.cells.blocks import blocks_of
from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.cells.spoil import spoil
from leukoscope.cells.spoiling.kinds import KINDS
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.common.errors import InputError


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    folder = tmp_path_factory.mktemp("spoil") / "cells.set"
    return simulate(folder, cells=120, size=32, bit_depth=12, patients=4)


@pytest.fixture(scope="module")
def spoiled(source: CellSet) -> CellSet:
    return spoil(source, source.path.with_name("bad.set"), jobs=1)


def test_the_table_keeps_every_column_and_tells_what_was_done(source: CellSet, spoiled: CellSet) -> None:
    cells = spoiled.cells
    assert list(cells.columns) == [*source.cells.columns, "quality", "grade", "spoiled_from", "second_cell"]
    assert set(cells["quality"]) == {"normal", *KINDS}
    assert cells["cell_id"].is_unique
    before = source.cells.set_index("cell_id").loc[cells["spoiled_from"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(cells[before.columns], before)
    assert (cells["quality"] == "doublet").equals(cells["second_cell"].notna())
    shown = [*cells["spoiled_from"], *cells["second_cell"].dropna()]
    assert sorted(shown) == sorted(source.ids)


def test_normal_cells_are_as_they_were_and_the_others_are_not(source: CellSet, spoiled: CellSet) -> None:
    rows = pd.Index(source.ids).get_indexer(pd.Index(spoiled.cells["spoiled_from"]))
    same = (spoiled.read(slice(None)) == source.read(rows)).all(axis=(1, 2, 3))
    assert (same == (spoiled.cells["quality"] == "normal").to_numpy()).all()
    assert (same == (spoiled.ids == spoiled.cells["spoiled_from"])).all()
    for pixels, name in zip(spoiled.read(slice(None)), spoiled.ids, strict=True):
        assert name.split(":")[0] == cell_id(pixels, "").split(":")[0]


def test_depth_channels_scale_and_intensity_are_those_of_the_source(source: CellSet, spoiled: CellSet) -> None:
    for key in ("channels", "height", "width", "dtype", "bit_depth", "intensity", "pixel_size_um"):
        assert getattr(spoiled.info, key) == getattr(source.info, key), key
    assert spoiled.read(slice(None)).max() <= 4095
    assert spoiled.info.packing["spoil"]["pixels"] == source.pixels_fingerprint
    assert spoiled.info.packing["simulator"] == source.info.packing["simulator"]


def test_order_and_threads_change_nothing(source: CellSet, spoiled: CellSet, tmp_path: Path) -> None:
    shuffled = source.select(np.random.default_rng(0).permutation(len(source)))
    again = spoil(shuffled, tmp_path / "again.set", jobs=3)
    place = pd.Index(again.ids).get_indexer(pd.Index(spoiled.ids))
    assert (again.read(place) == spoiled.read(slice(None))).all()
    other = spoil(source, tmp_path / "other.set", jobs=2, seed=1)
    assert set(other.cells.loc[other.cells["quality"] != "normal", "cell_id"]).isdisjoint(spoiled.ids)


def test_the_rule_of_intensity_stays_where_it_was_one_of_percentiles(source: CellSet, tmp_path: Path) -> None:
    with CellSetWriter(tmp_path, channels=["a"], height=32, width=32, dtype=np.dtype(np.uint16)) as writer:
        writer.add(source.read(slice(0, 20)), source.cells.iloc[:20].to_dict("records"))
        info = writer.finish(packing={}, bit_depth=12, percentiles=(1, 99))
    made = spoil(CellSet.open(tmp_path), tmp_path / "bad.set", share=1, kinds=["saturation"])
    assert made.info.intensity == info.intensity
    assert made.info.intensity.rule == "percentile"


def test_a_cell_and_its_spoiled_copy_are_found_out(source: CellSet, tmp_path: Path) -> None:
    every = spoil(source, tmp_path / "every.set", share=1, kinds=["noise"])
    assert set(every.ids).isdisjoint(source.ids)
    blocks = blocks_of(pd.concat([source.cells, every.cells], ignore_index=True))
    assert (blocks[:120] == blocks[120:]).all()
    assert audit([every], pretrain=[source]).spoiled
    assert not audit([every]).spoiled


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kinds": ["blur"]}, "spoil: kinds: no kind 'blur'; choose from defocus, saturation"),
        ({"kinds": []}, "spoil: kinds: "),
        ({"grade": (0.8, 0.2)}, "spoil: grade: give the lowest and the highest, from 0 to 1"),
        ({"share": 0}, "spoil: share: input should be greater than 0"),
    ],
)
def test_mistakes_are_named(source: CellSet, tmp_path: Path, asked: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        spoil(source, tmp_path / "x.set", **asked)
    assert message in str(error.value)
    assert not (tmp_path / "x.set").exists()


def test_what_must_not_be_spoiled_is_refused(source: CellSet, spoiled: CellSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is the source itself, and the cells as acquired would be lost"):
        spoil(source, source.path, overwrite=True)
    with pytest.raises(InputError, match="has a column 'quality' already, which spoil writes"):
        spoil(spoiled, tmp_path / "x.set")
    with pytest.raises(InputError, match="exists already"):
        spoil(source, spoiled.path)
    with pytest.raises(InputError, match="holds no cells to spoil"):
        spoil(source.select(np.array([], dtype=int)), tmp_path / "x.set")
