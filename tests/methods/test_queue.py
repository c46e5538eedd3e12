from collections import deque

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from leukoscope.methods.queue import KeyQueue


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 12), pushes=st.lists(st.integers(1, 15), max_size=6))
def test_it_keeps_the_newest_keys_with_their_cells(length: int, pushes: list[int]) -> None:
    queue = KeyQueue(length, 3, seed=0)
    expected = deque(zip(queue.keys.clone(), queue.cells.tolist(), strict=True), maxlen=length)
    count = 0
    for number in pushes:
        keys = torch.arange(count, count + number).float()[:, None].expand(-1, 3)
        cells = torch.arange(count, count + number)
        queue.push(keys, cells)
        expected.extend(zip(keys, cells.tolist(), strict=True))
        count += number
    held = sorted(zip(queue.cells.tolist(), queue.keys[:, 0].tolist(), strict=True))
    assert held == sorted((cell, key[0].item()) for key, cell in expected)


def test_it_starts_with_unit_vectors_of_no_cell() -> None:
    queue = KeyQueue(5, 8, seed=1)
    assert torch.allclose(queue.keys.norm(dim=1), torch.ones(5))
    assert (queue.cells == -1).all()
    assert torch.equal(queue.keys, KeyQueue(5, 8, seed=1).keys)
    assert not torch.equal(queue.keys, F.normalize(KeyQueue(5, 8, seed=2).keys, dim=1))
