import logging
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from leukoscope.common.files import whole_folder, write_json
from leukoscope.common.machine import cpus, processor, versions

log = logging.getLogger("leukoscope")

_LIBRARIES = (
    "leukoscope",
    "torch",
    "torchvision",
    "timm",
    "lightly",
    "lightning",
    "numpy",
    "scipy",
    "scikit-learn",
    "anndata",
)


class RunFolder:
    """The folder of a verb that computes: settings, results, tables, figures, log and provenance.

    It is whole when it holds ``results.json``, which is written last.
    """

    def __init__(self, path: Path, *, verb: str, settings: Mapping[str, Any], seed: int) -> None:
        self.path = path
        self.provenance: dict[str, Any] = {
            "verb": verb,
            "command": " ".join(sys.argv),
            "seed": seed,
            "git_commit": _git_commit(),
            "versions": {"python": platform.python_version(), **versions(_LIBRARIES)},
            "hardware": {
                "machine": platform.machine(),
                "cpus": cpus(),
                "processor": processor(),
            },
            "fingerprints": {},
            "start": _now(),
        }
        path.mkdir(parents=True, exist_ok=True)
        (path / "recipe.yaml").write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")

    def fingerprint(self, name: str, value: str) -> None:
        """Record the fingerprint of an input, such as ``pixels`` of a CellSet, in the provenance."""
        self.provenance["fingerprints"][name] = value

    def finish(self, results: Mapping[str, Any]) -> None:
        """Write ``provenance.json`` and then ``results.json`` (with the provenance inside): the run is whole."""
        self.provenance["end"] = _now()
        # Linux counts ru_maxrss in KiB.
        self.provenance["peak_memory_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        write_json(self.path / "provenance.json", self.provenance)
        write_json(self.path / "results.json", {**results, "provenance": self.provenance})


@contextmanager
def run_folder(
    out: Path, *, verb: str, settings: Mapping[str, Any], seed: int, overwrite: bool = False, resumable: bool = False
) -> Iterator[RunFolder]:
    """Open the run folder ``out`` and log into it.

    A resumable run works in ``out`` itself and may be entered again after a kill; any other is written beside
    ``out`` and takes its name when the block ends well. The block calls ``run.finish(results)``.

    Raises:
        InputError: when ``out`` exists already, is not resumable, and ``overwrite`` is false.
    """
    if resumable:
        run = RunFolder(out, verb=verb, settings=settings, seed=seed)
        with _log_to(out / "log.txt"):
            yield run
        return
    with whole_folder(out, overwrite=overwrite) as partial:
        run = RunFolder(partial, verb=verb, settings=settings, seed=seed)
        with _log_to(partial / "log.txt"):
            yield run


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git_commit() -> str | None:
    here = Path(__file__).parent
    answer = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
