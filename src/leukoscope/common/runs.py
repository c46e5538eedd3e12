import logging
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from leukoscope.common.files import Mark, refuse_folder, whole_file, whole_folder, write_json
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
        # A run that is entered again is not whole until it ends again.
        (path / "results.json").unlink(missing_ok=True)
        recipe = run_mark(verb).begins + yaml.safe_dump(dict(settings), sort_keys=False)
        with whole_file(path / "recipe.yaml") as partial:
            partial.write_text(recipe, encoding="utf-8")

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


def run_mark(verb: str) -> Mark:
    """By what a run folder of ``verb`` is known, whole or not: the first line of its recipe."""
    return Mark("recipe.yaml", f"# leukoscope {verb}\n")


def clear_run(out: Path, verb: str) -> None:
    """Delete the run folder ``out`` of ``verb``, where there is one.

    Raises:
        InputError: when ``out`` is something else.
    """
    refuse_folder(out, run_mark(verb), overwrite=True)
    shutil.rmtree(out, ignore_errors=True)


@contextmanager
def run_folder(
    out: Path, *, verb: str, settings: Mapping[str, Any], seed: int, overwrite: bool = False, resumable: bool = False
) -> Iterator[RunFolder]:
    """Open the run folder ``out`` and log into it.

    A resumable run works in ``out`` itself and may be entered again after a kill; any other is written beside
    ``out`` and takes its name when the block ends well. The block calls ``run.finish(results)``.

    Raises:
        InputError: when ``out`` is not resumable and exists already, unless it is a run of ``verb`` to be overwritten.
    """
    if resumable:
        run = RunFolder(out, verb=verb, settings=settings, seed=seed)
        with _log_to(out / "log.txt"):
            yield run
        return
    with whole_folder(out, run_mark(verb), overwrite=overwrite) as partial:
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
