"""Attention checked by removal: the answer should change without the cells that it rests on."""

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from leukoscope.bags.bags import Bags
from leukoscope.bags.train import FittedBags, judge
from leukoscope.common.settings import Settings


class RemovalSettings(Settings):
    """How many cells are taken away, and how often as many are drawn at random beside them."""

    share: float = Field(default=0.1, gt=0, lt=1)
    draws: int = Field(default=5, ge=1)


def remove_cells(
    fitted: FittedBags,
    bags: Bags,
    x: Tensor,
    which: np.ndarray,
    said: Tensor,
    attention: list[Tensor],
    settings: RemovalSettings,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Judge bags again without the cells of most attention, and without as many random ones.

    Attention is that of the class which the whole bag was called; a bag of one cell cannot be judged without it.

    Args:
        fitted: the model.
        bags: all of them.
        x: features of their cells ``(N, D)``.
        which: the bags that are judged ``(n,)``.
        said: what the model says of them, ``(n, K)``.
        attention: what it gave each of their cells, ``(cells, H)`` a bag.
        settings: how many cells.
        rng: of the random ones.

    Returns:
        ``bag, cells, removed, whole, without_top, without_random``: the probability of the class that the whole bag
        was called, in each case (over random draws: their mean); ``changed_top`` and ``changed_random``: whether, and
        how often, another class is called.
    """
    rows, kept, told = bags.rows(which), [], []
    for place, (own, looked) in enumerate(zip(rows, attention, strict=True)):
        called = int(said[place].argmax())
        n = min(max(1, round(settings.share * len(own))), len(own) - 1)
        if n < 1:
            continue
        top = torch.argsort(looked[:, called if looked.shape[1] > 1 else 0], descending=True).numpy()
        kept.append(own[np.sort(top[n:])])
        kept += [own[np.sort(rng.permutation(len(own))[n:])] for _ in range(settings.draws)]
        told.append((place, called, n))
    if not told:
        return pd.DataFrame()
    again, _ = judge(fitted, x, kept)
    found = []
    parts = again.reshape(len(told), 1 + settings.draws, -1)
    for (place, called, n), p in zip(told, parts, strict=True):
        other = (p.argmax(dim=1) != called).double()
        found.append(
            {
                "bag": bags.names[which[place]],
                "cells": len(rows[place]),
                "removed": n,
                "whole": float(said[place, called]),
                "without_top": float(p[0, called]),
                "without_random": float(p[1:, called].mean()),
                "changed_top": float(other[0]),
                "changed_random": float(other[1:].mean()),
            }
        )
    return pd.DataFrame(found)
