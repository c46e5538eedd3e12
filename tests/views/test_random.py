import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from leukoscope.views.random import Draws, _numbered, normals, uniforms

integers = st.integers(min_value=0, max_value=2**62)


def test_the_hash_is_splitmix64_as_published() -> None:
    # The first numbers of splitmix64 from seed 1234567, as its reference implementation prints them.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    words = _numbered(torch.tensor([1234567]), 3)[0].tolist()
    assert [word % 2**64 for word in words] == expected


def reference(seed: int, epoch: int, cell: int, n: int, stream: int) -> list[float]:
    """The same numbers in Python's unbounded integers: what every device must give, bit for bit."""
    word, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
        return z ^ (z >> 31)

    key = 0
    for part in (seed, epoch, stream, cell):
        key = mix((key + part * golden) & word)
    return [(mix((key + (i + 1) * golden) & word) >> 40) / 2**24 for i in range(n)]


@given(seed=integers, epoch=integers, cell=integers, stream=integers)
@settings(max_examples=50, deadline=None)
def test_uniforms_equal_integer_arithmetic_bit_for_bit(seed: int, epoch: int, cell: int, stream: int) -> None:
    drawn = uniforms(seed, epoch, torch.tensor([cell]), 5, stream)
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn, uniforms(seed, epoch, torch.tensor([cell]), 5, torch.tensor([stream])))
    assert drawn[0].tolist() == reference(seed, epoch, cell, 5, stream)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same_bits() -> None:
    cells = torch.arange(1000)
    assert torch.equal(uniforms(1, 2, cells, 7, 3), uniforms(1, 2, cells.cuda(), 7, 3).cpu())


@given(order=st.permutations(range(12)), kept=st.integers(min_value=1, max_value=12))
@settings(max_examples=30, deadline=None)
def test_a_cell_s_numbers_do_not_depend_on_its_batch(order: list[int], kept: int) -> None:
    cells = torch.arange(100, 112)
    some = torch.tensor(order[:kept])
    assert torch.equal(uniforms(0, 3, cells, 4)[some], uniforms(0, 3, cells[some], 4))
    assert torch.equal(normals(0, 3, cells, 9)[some], normals(0, 3, cells[some], 9))


def test_fewer_numbers_are_the_first_of_more() -> None:
    cells = torch.arange(20)
    assert torch.equal(uniforms(0, 0, cells, 3), uniforms(0, 0, cells, 8)[:, :3])


@pytest.mark.parametrize("vary", ["cells", "numbers", "epochs", "seeds", "streams"])
def test_uniform_along_every_axis(vary: str) -> None:
    n = 20_000
    one = torch.tensor([5])
    drawn = {
        "cells": lambda: uniforms(0, 0, torch.arange(n), 1)[:, 0],
        "numbers": lambda: uniforms(0, 0, one, n)[0],
        "epochs": lambda: torch.cat([uniforms(0, epoch, one, 4)[0] for epoch in range(n // 10)]),
        "seeds": lambda: torch.cat([uniforms(seed, 0, one, 4)[0] for seed in range(n // 10)]),
        "streams": lambda: torch.cat([uniforms(0, 0, one, 4, stream)[0] for stream in range(n // 10)]),
    }[vary]()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert stats.kstest(drawn.numpy(), "uniform").pvalue > 0.001


def test_numbers_of_neighbours_are_independent() -> None:
    cells = torch.arange(20_000)
    here = uniforms(0, 0, cells, 2)
    partners = {
        "next number": here[:, 1],
        "next cell": uniforms(0, 0, cells + 1, 1)[:, 0],
        "next epoch": uniforms(0, 1, cells, 1)[:, 0],
        "next seed": uniforms(1, 0, cells, 1)[:, 0],
        "next stream": uniforms(0, 0, cells, 1, 1)[:, 0],
    }
    for name, other in partners.items():
        assert abs(stats.spearmanr(here[:, 0], other).statistic) < 0.03, name
        # The sum modulo one of two independent uniforms is uniform; of two dependent ones it is not.
        assert stats.kstest(((here[:, 0] + other) % 1).numpy(), "uniform").pvalue > 0.001, name
        table = np.histogram2d(here[:, 0], other, bins=8)[0]
        assert stats.chi2_contingency(table).pvalue > 0.001, name


def test_normals_are_normal_and_independent() -> None:
    drawn = normals(0, 0, torch.arange(200), 101)
    assert drawn.shape == (200, 101)
    assert stats.kstest(drawn.flatten().numpy(), "norm").pvalue > 0.001
    # The two numbers of one Box-Muller pair stand 51 apart.
    assert abs(stats.spearmanr(drawn[:, :50].flatten(), drawn[:, 51:].flatten()).statistic) < 0.04


def test_kinds_of_operations_draw_apart_whatever_the_number() -> None:
    cells = torch.arange(5000)
    draws, before = (Draws(0, 0, cells, torch.full_like(cells, view)) for view in (1, 0))
    few, other, many = draws.uniform(3, 2), draws.uniform(4, 2), draws.uniform(3, 30)
    for a, b in ((few, other), (few, many[:, :2]), (few, before.uniform(3, 2))):
        assert abs(stats.spearmanr(a[:, 0], b[:, 0]).statistic) < 0.06
    assert many.shape == (5000, 30)
