import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Draw the weights of what is built within from ``seed``; the global random state is neither read nor moved.

    Generators of other devices are not touched: weights are drawn on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def seeded_draws(place: Sequence[int], device: torch.device) -> Iterator[None]:
    """Seed what networks draw from the global states on ``device`` (dropout, dropped paths); they are restored after.

    ``place`` says where training stands, such as (seed, step): the same place draws the same.
    """
    drawn = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> np.uint64(1))
    before = random.getstate()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(drawn)
            random.seed(drawn)
            yield
    finally:
        random.setstate(before)
