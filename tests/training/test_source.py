import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.common.errors import InputError
from leukoscope.training.source import Batches


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    return simulate(tmp_path_factory.mktemp("source") / "a.set", cells=50, size=16, jobs=1)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    return simulate(tmp_path_factory.mktemp("source") / "b.set", cells=30, size=16, seed=1, jobs=1)


def test_an_epoch_shows_every_cell_once_but_for_the_last_batch(cells: CellSet) -> None:
    source = Batches([cells], 8, seed=3)
    seen = torch.cat([batch.cells for batch in source.epoch(0)])
    assert len(seen) == 48
    assert len(seen.unique()) == 48


def test_the_order_depends_on_seed_and_epoch_alone(cells: CellSet) -> None:
    order = Batches([cells], 8, seed=3).order(1)
    assert np.array_equal(order, Batches([cells], 8, seed=3).order(1))
    assert not np.array_equal(order, Batches([cells], 8, seed=3).order(2))
    assert not np.array_equal(order, Batches([cells], 8, seed=4).order(1))


def test_a_batch_holds_the_pixels_of_its_cells(cells: CellSet, others: CellSet) -> None:
    everything = np.concatenate([cells.read(slice(None)), others.read(slice(None))])
    for batch in Batches([cells, others], 16, seed=0).epoch(0):
        assert np.array_equal(batch.pixels.numpy(), everything[batch.cells.numpy()])


def test_an_epoch_goes_on_where_it_stopped(cells: CellSet) -> None:
    source = Batches([cells], 8, seed=3)
    whole = [batch.cells for batch in source.epoch(5)]
    rest = [batch.cells for batch in source.epoch(5, start=4)]
    assert torch.equal(torch.stack(whole[4:]), torch.stack(rest))


def test_processes_share_every_batch(cells: CellSet) -> None:
    shares = [[batch.cells for batch in Batches([cells], 8, seed=3, rank=rank, world=2).epoch(0)] for rank in range(2)]
    together = [torch.cat(pair) for pair in zip(*shares, strict=True)]
    alone = [batch.cells for batch in Batches([cells], 8, seed=3).epoch(0)]
    assert torch.equal(torch.stack(together), torch.stack(alone))


def test_weights_draw_a_small_set_as_often_as_a_large_one(cells: CellSet, others: CellSet) -> None:
    order = Batches([cells, others], 8, seed=0, weights=[1, 1]).order(0)
    assert len(order) == 80
    assert (order < 50).sum() == 40
    counts = np.bincount(order[order >= 50] - 50, minlength=30)
    assert set(counts) == {1, 2}  # 40 draws of 30 cells, as evenly as can be


def test_what_fails_while_reading_is_raised_in_the_training(cells: CellSet, tmp_path: Path) -> None:
    gone = replace(cells, path=tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        next(Batches([gone], 8, seed=0).epoch(0))


def test_a_loop_that_ends_early_leaves_no_thread(cells: CellSet) -> None:
    for _ in Batches([cells], 8, seed=0).epoch(0):
        break
    assert not [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_sets_that_do_not_go_together_are_refused(cells: CellSet, tmp_path: Path) -> None:
    deep = simulate(tmp_path / "deep.set", cells=10, size=16, bit_depth=12, jobs=1)
    with pytest.raises(InputError, match=r"deep\.set: dtype uint16 differs from uint8 of .*a\.set; pack both"):
        Batches([cells, deep], 8, seed=0)


def test_too_few_cells_for_a_batch_are_refused(cells: CellSet) -> None:
    with pytest.raises(InputError, match=r"a\.set: 50 cells do not fill one batch of 64; give a smaller --batch"):
        Batches([cells], 64, seed=0)


def test_every_set_needs_a_weight(cells: CellSet, others: CellSet) -> None:
    with pytest.raises(InputError, match="weights: 2 CellSets need as many weights above zero"):
        Batches([cells, others], 8, seed=0, weights=[1])


def test_rare_classes_are_drawn_as_often_as_common_ones(cells: CellSet, others: CellSet) -> None:
    classes = np.array([0] * 40 + [1] * 7 + [2] * 3 + [1] * 30)  # the second set has one class
    source = Batches([cells, others], 8, seed=3, balance=classes)
    drawn = source.order(0)
    assert len(drawn) == 80
    first = classes[drawn[drawn < 50]]
    assert sorted(np.bincount(first)) == [16, 17, 17]
    assert (np.bincount(drawn, minlength=80)[47:50] >= 5).all()
    assert sorted(drawn[drawn >= 50]) == list(range(50, 80))
    assert not np.array_equal(drawn, source.order(1))
