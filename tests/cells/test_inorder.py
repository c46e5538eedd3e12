import threading
import time

import pytest

from leukoscope.cells.inorder import in_order


def test_results_come_in_order_whatever_finishes_first():
    def work(chunk):
        time.sleep(0.02 if chunk[0] % 3 == 0 else 0)
        return [piece * 10 for piece in chunk]

    got = list(in_order(work, range(20), jobs=4, weight=lambda piece: 1, chunk=3))
    assert [count for count, _ in got] == [3] * 6 + [2]
    assert [piece for _, result in got for piece in result] == [piece * 10 for piece in range(20)]


def test_heavy_pieces_travel_alone():
    got = list(in_order(len, [1, 1, 9, 1, 1], jobs=2, weight=lambda piece: piece, chunk=4))
    assert [count for count, _ in got] == [3, 2]


def test_only_a_few_pieces_are_in_flight():
    drawn = 0

    def pieces():
        nonlocal drawn
        for piece in range(200):
            drawn += 1
            yield piece

    for taken, _ in enumerate(in_order(list, pieces(), jobs=2, weight=lambda piece: 1, chunk=1), 1):
        assert drawn - taken <= 5


def test_an_error_of_ours_ends_the_work_and_leaves_no_thread():
    before = threading.active_count()

    def work(chunk):
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        list(in_order(work, range(10), jobs=3, weight=lambda piece: 1, chunk=1))
    assert threading.active_count() == before
