from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from leukoscope.common.errors import InputError
from leukoscope.encoders.features import Features, stored_cells


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cell_id": ["a:1#0", "b:2#0", "c:3#0"],
            "label": ["EOS", None, "NEU"],
            "n_experts": pd.array([2, None, 1], dtype="Int64"),
            "area": [1.5, np.nan, 3.0],
            "kept": [True, False, True],
            "time": pd.to_datetime(["2026-01-01", None, "2026-01-03"]),
        }
    )


def test_any_table_goes_through(tmp_path: Path) -> None:
    features = Features(np.eye(3, dtype=np.float32), table(), {"method": "test"})
    features.write(tmp_path / "f.h5ad")
    back = Features.read(tmp_path / "f.h5ad")
    assert back.x.dtype == np.float32
    assert list(back.cells.columns) == list(table().columns)
    assert list(back.cells["label"]) == ["EOS", None, "NEU"]
    assert back.cells["kept"].tolist() == [True, False, True]
    assert back.cells["n_experts"].isna().tolist() == [False, True, False]
    assert back.uns["method"] == "test"


def test_select_keeps_rows_and_table_together() -> None:
    features = Features(np.arange(6, dtype=np.float32).reshape(3, 2), table())
    kept = features.select(np.array([True, False, True]))
    assert kept.ids.tolist() == ["a:1#0", "c:3#0"]
    assert kept.x.tolist() == [[0, 1], [4, 5]]
    assert features.select(np.array([2, 0])).ids.tolist() == ["c:3#0", "a:1#0"]


def test_stored_cells_are_counted_without_reading_them(tmp_path: Path) -> None:
    Features(np.eye(3, dtype=np.float32), table()).write(tmp_path / "f.h5ad")
    assert stored_cells(tmp_path / "f.h5ad") == 3
    with h5py.File(tmp_path / "g.h5ad", "w") as file:
        file["X/data"] = np.zeros(3)
    with pytest.raises(InputError, match=r"g\.h5ad: needs a dense X; make it with"):
        stored_cells(tmp_path / "g.h5ad")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    good = Features(np.eye(3, dtype=np.float32), table())
    good.write(tmp_path / "f.h5ad")
    with pytest.raises(Exception, match=r".+"):
        Features(np.eye(3, dtype=np.float32), table(), {"bad": object()}).write(tmp_path / "f.h5ad")
    assert len(Features.read(tmp_path / "f.h5ad")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["f.h5ad"]


def test_a_broken_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "f.h5ad").write_bytes(b"not hdf5")
    with pytest.raises(InputError, match=r"f\.h5ad: not readable as \.h5ad") as error:
        Features.read(tmp_path / "f.h5ad")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"g\.h5ad: no such features; make them with 'leukoscope embed"):
        Features.read(tmp_path / "g.h5ad")


def test_a_foreign_file_without_cell_ids_is_refused(tmp_path: Path) -> None:
    import anndata

    anndata.AnnData(np.eye(3, dtype=np.float32)).write_h5ad(tmp_path / "f.h5ad")
    with pytest.raises(InputError, match="needs a dense X and a cell_id column in obs"):
        Features.read(tmp_path / "f.h5ad")
