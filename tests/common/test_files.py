from pathlib import Path

import pytest

from leukoscope.common.errors import InputError
from leukoscope.common.files import Mark, refuse_file, whole_folder
from leukoscope.common.runs import clear_run, run_folder

SET = Mark("cellset.json")


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_folder(out, SET) as folder:
        (folder / "cellset.json").write_text("{}")
    with pytest.raises(ZeroDivisionError), whole_folder(out, SET, overwrite=True) as folder:
        (folder / "cellset.json").write_text(str(1 / 0))
    assert (out / "cellset.json").read_text() == "{}"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_only_a_folder_of_the_same_kind_is_overwritten(tmp_path: Path) -> None:
    with run_folder(tmp_path / "run", verb="evaluate", settings={"a": 1}, seed=0) as run:
        run.finish({})
    with pytest.raises(InputError, match="exists already; choose another name or give --overwrite"):
        whole_folder(tmp_path / "run", SET).__enter__()
    with pytest.raises(InputError, match="holds something else than would be written, which --overwrite would delete"):
        whole_folder(tmp_path / "run", SET, overwrite=True).__enter__()
    with pytest.raises(InputError, match="holds something else"):
        clear_run(tmp_path / "run", "pretrain")
    clear_run(tmp_path / "run", "evaluate")
    assert not (tmp_path / "run").exists()


def test_files_and_folders_do_not_take_each_others_place(tmp_path: Path) -> None:
    (tmp_path / "file.h5ad").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is a file, and a folder is to be written"):
        whole_folder(tmp_path / "file.h5ad", SET, overwrite=True).__enter__()
    with pytest.raises(InputError, match="is a folder, and a file is to be written"):
        refuse_file(tmp_path / "folder", overwrite=True)
    with pytest.raises(InputError, match="exists already"):
        refuse_file(tmp_path / "file.h5ad")


def test_a_run_that_is_entered_again_is_not_whole_until_it_ends(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with run_folder(out, verb="study", settings={}, seed=0, resumable=True) as run:
        run.finish({"n": 1})
    with (
        pytest.raises(ZeroDivisionError),
        run_folder(out, verb="study", settings={}, seed=0, resumable=True),
    ):
        assert 1 / 0
    assert not (out / "results.json").exists()
