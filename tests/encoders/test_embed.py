import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.encoders.embed import embed, maps_path
from leukoscope.encoders.features import Features
from leukoscope.encoders.readout import Readout

MakeSet = Callable[..., CellSet]


def test_features_open_in_anndata_with_table_and_fingerprints(make_set: MakeSet, tmp_path: Path) -> None:
    cellset = make_set()
    encoder = random_encoder("resnet18", cellset, size=32, seed=0)
    features = embed(cellset, encoder, tmp_path / "f.h5ad", device="cpu")
    data = anndata.read_h5ad(tmp_path / "f.h5ad")
    assert data.X.dtype == np.float32
    assert data.shape == (21, 512)
    assert list(data.obs_names) == list(cellset.ids)
    assert data.uns["pixels_fingerprint"] == cellset.pixels_fingerprint
    assert data.uns["encoder_fingerprint"] == encoder.fingerprint
    back = Features.read(tmp_path / "f.h5ad")
    assert np.array_equal(back.x, features.x)
    assert list(back.ids) == list(cellset.ids)
    assert back.cells["label"].iloc[0] is None
    assert back.cells["label"].iloc[1] == "kind 1"


def test_batch_size_does_not_change_features(make_set: MakeSet) -> None:
    cellset = make_set()
    encoder = random_encoder("resnet18", cellset, size=32, seed=0)
    whole = embed(cellset, encoder, device="cpu").x
    small = embed(cellset, encoder, batch=4, device="cpu").x
    np.testing.assert_allclose(small, whole, rtol=1e-4, atol=1e-5)


def test_a_saved_encoder_gives_the_same_features(make_set: MakeSet, tmp_path: Path) -> None:
    cellset = make_set()
    encoder = random_encoder("resnet18", cellset, size=32, seed=0)
    encoder.save(tmp_path / "encoder")
    loaded = Encoder.load(tmp_path / "encoder")
    assert loaded.info == encoder.info
    assert loaded.fingerprint == encoder.fingerprint
    assert np.array_equal(embed(cellset, loaded, device="cpu").x, embed(cellset, encoder, device="cpu").x)


def test_mirrored_cells_are_stored_as_those_of_mirrored_images(make_set: MakeSet, tmp_path: Path) -> None:
    cellset = make_set()
    encoder = random_encoder("resnet18", cellset, size=32, seed=0)
    features = embed(cellset, encoder, tmp_path / "f.h5ad", batch=8, flipped=True, device="cpu", precision="fp32")
    back = Features.read(tmp_path / "f.h5ad")
    assert back.flipped is not None
    assert np.array_equal(back.flipped, features.flipped)
    pixels = torch.from_numpy(cellset.read(slice(None)))
    for number, axes in enumerate(((3,), (2,), (2, 3))):
        expected = encoder.features(pixels.flip(axes), intensity=cellset.info.intensity).detach().numpy()
        np.testing.assert_allclose(back.flipped[number], expected, rtol=1e-3, atol=1e-4)
    rows = np.array([5, 2])
    assert np.array_equal(back.select(rows).flipped, back.flipped[:, rows])


def test_maps_follow_a_selection_and_leave_with_their_features(make_set: MakeSet, tmp_path: Path) -> None:
    cellset = make_set()
    encoder = random_encoder("resnet18", cellset, size=64, seed=0)
    embed(cellset, encoder, tmp_path / "f.h5ad", maps=True, device="cpu")
    back = Features.read(tmp_path / "f.h5ad")
    assert back.maps is not None
    whole, picked = back.maps.read(), back.select(np.array([9, 3, 4])).select(np.array([2, 0])).maps
    assert picked is not None
    assert np.array_equal(picked.read(), whole[[4, 9]])
    np.save(maps_path(tmp_path / "f.h5ad"), whole[:5])
    with pytest.raises(InputError, match=r"maps of 5 cells, f\.h5ad has 21; embed the cells anew"):
        Features.read(tmp_path / "f.h5ad")
    embed(cellset, encoder, tmp_path / "f.h5ad", device="cpu", overwrite=True)
    assert Features.read(tmp_path / "f.h5ad").maps is None


def test_maps_are_stored_beside_and_pool_to_the_features(make_set: MakeSet, tmp_path: Path) -> None:
    cellset = make_set()
    encoder = random_encoder("resnet18", cellset, size=64, seed=0)
    features = embed(cellset, encoder, tmp_path / "f.h5ad", maps=True, batch=8, device="cpu")
    maps = np.load(maps_path(tmp_path / "f.h5ad"), mmap_mode="r")
    assert maps.dtype == np.float16
    assert maps.shape == (21, 512, 2, 2)
    np.testing.assert_allclose(np.asarray(maps, np.float32).mean((2, 3)), features.x, rtol=5e-3, atol=1e-3)


def test_other_channels_are_refused_in_one_line(make_set: MakeSet) -> None:
    encoder = random_encoder("resnet18", make_set("a.set"), size=32, seed=0)
    with pytest.raises(InputError, match=r"b\.set: has 2 channels \(c0, c1\), the encoder takes 1 \(c0\)") as error:
        embed(make_set("b.set", channels=2), encoder)
    assert "\n" not in str(error.value)


def test_an_existing_file_is_not_overwritten_unasked(make_set: MakeSet, tmp_path: Path) -> None:
    cellset = make_set()
    encoder = random_encoder("resnet18", cellset, size=32, seed=0)
    (tmp_path / "f.h5ad").write_text("mine")
    with pytest.raises(InputError, match="exists already; choose another name or give --overwrite"):
        embed(cellset, encoder, tmp_path / "f.h5ad")
    embed(cellset, encoder, tmp_path / "f.h5ad", overwrite=True)
    assert len(Features.read(tmp_path / "f.h5ad")) == 21


def test_cells_of_another_field_are_warned_of(make_set: MakeSet, caplog: pytest.LogCaptureFixture) -> None:
    encoder = random_encoder("resnet18", make_set("a.set", pixel_size_um=0.5), size=32, seed=0)
    embed(make_set("b.set", pixel_size_um=0.54), encoder)
    assert not caplog.records
    embed(make_set("c.set", pixel_size_um=0.56), encoder)
    assert "images show 17.9 um, the encoder learned from 16 um" in caplog.text


def test_a_run_killed_in_the_middle_leaves_nothing_that_looks_whole(make_set: MakeSet, tmp_path: Path) -> None:
    cellset = make_set(count=400, size=64)
    random_encoder("resnet18", cellset, size=64, seed=0).save(tmp_path / "encoder")
    words = [cellset.path, tmp_path / "encoder", tmp_path / "f.h5ad", "--batch", 8, "--maps", "--device", "cpu"]
    command = [sys.executable, "-c", "from leukoscope.cli.main import run; run()", "embed", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        started = tmp_path / ".f.maps.npy.partial"
        while not started.exists() and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "f.h5ad").exists()
    assert not maps_path(tmp_path / "f.h5ad").exists()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert len(Features.read(tmp_path / "f.h5ad")) == 400


def test_several_stages_widen_the_features_and_are_written_down(make_set: MakeSet, tmp_path: Path) -> None:
    cellset = make_set()
    encoder = random_encoder("resnet18", cellset, size=64, seed=0)
    last = embed(cellset, encoder, batch=8, device="cpu")
    wide = embed(cellset, encoder, tmp_path / "f.h5ad", readout=Readout(stages=3), batch=8, device="cpu")
    assert wide.x.shape == (21, 128 + 256 + 512)
    np.testing.assert_allclose(wide.x[:, -512:], last.x, rtol=1e-5, atol=1e-6)
    assert Features.read(tmp_path / "f.h5ad").uns["stages"] == 3
