import os

# One thread a test process: results are bit-identical from run to run, and parallel workers do not fight for cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

from pathlib import Path

import pytest

from leukoscope.common.files import shared_data


@pytest.fixture(scope="session")
def real_cells() -> Path:
    """The folder of real cells; tests that need it skip where it is absent."""
    place = shared_data()
    if place is None:
        pytest.skip("real cells are absent: no ../shared/data and no LEUKOSCOPE_DATA")
    return place
