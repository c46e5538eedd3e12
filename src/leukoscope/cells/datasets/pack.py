from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from leukoscope.cells.cellset import MARK, CellSet
from leukoscope.cells.datasets.asis import AsIs
from leukoscope.cells.datasets.compare import counts, differences
from leukoscope.cells.datasets.entry import Entry
from leukoscope.cells.pack import PackReport, pack
from leukoscope.common.errors import InputError
from leukoscope.common.files import refuse_folder


@dataclass(frozen=True)
class DatasetReport:
    """What packing a published set did: the pack's own report, cells a class, and what is not as the papers say.

    ``left_out`` names and counts what the layout does not use, ``differences`` numbers that are not the stated ones.
    """

    entry: Entry
    packing: PackReport
    counts: dict[str, int]
    differences: tuple[str, ...]
    left_out: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report for a machine to read."""
        return {
            "dataset": self.entry.name,
            "licence": self.entry.licence,
            "counts": self.counts,
            "differences": list(self.differences),
            "left_out": list(self.left_out),
            **self.packing.as_dict(),
        }

    def lines(self) -> list[str]:
        """The report for a person to read, but for the counts."""
        left_out = [f"left out: {line}" for line in self.left_out]
        different = [f"differs: {line}" for line in self.differences]
        return [*self.packing.lines(), *left_out, *different]


def pack_dataset(
    entry: Entry,
    source: Path,
    out: Path,
    *,
    given: Mapping[str, Any] | None = None,
    where: str = "datasets",
    jobs: int = 0,
    overwrite: bool = False,
) -> DatasetReport:
    """Pack a downloaded copy of a published set into the CellSet ``out``.

    ``given`` are settings of packing over those of the entry; ``where`` names their origin in messages.

    Raises:
        InputError: when ``source`` is no copy of the set, a setting is wrong, or packing itself cannot be done.
    """
    refuse_folder(out, MARK, overwrite=overwrite)
    root = locate(entry, source)
    with TemporaryDirectory() as scratch:
        laid = entry.layout.lay_out(root, Path(scratch))
        if laid is None:
            raise _no_copy(entry, source)
        settings = entry.settings(given or {}, laid.settings, where)
        report = pack(laid.source, out, settings=settings, origin=entry.origin, jobs=jobs, overwrite=overwrite)
    cells = CellSet.open(out).cells
    return DatasetReport(entry, report, counts(cells, entry), tuple(differences(cells, entry)), laid.left_out)


def locate(entry: Entry, source: Path) -> Path:
    """The folder of a download that holds what the entry needs: ``source``, or one up to two levels below.

    Raises:
        InputError: when there is none, or ``source`` is missing.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder; download {entry.name} from {entry.page}")
    if source.is_file() and isinstance(entry.layout, AsIs):
        return source
    for below in ("", "*/", "*/*/") if source.is_dir() else ():
        for folder in sorted(source.glob(below)) if below else [source]:
            if all(any(folder.glob(need)) for need in entry.needs):
                return folder
    raise _no_copy(entry, source)


def _no_copy(entry: Entry, source: Path) -> InputError:
    needs = f" ({', '.join(entry.needs)})" if entry.needs else ""
    return InputError(
        f"{source}: holds no copy of {entry.name}{needs}; 'leukoscope datasets {entry.name}' says what one looks like"
    )
