from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.cells.auditing import leaks
from leukoscope.cells.auditing.finding import Finding
from leukoscope.cells.auditing.near import near_duplicates
from leukoscope.cells.auditing.pixels import pixel_findings, scan
from leukoscope.cells.cellset import CellSet, contents_of
from leukoscope.cells.labels import Labels
from leukoscope.common.errors import CheckFailed, InputError

_GROUPS = ("patient", "slide")
_RARE = 5
_ORDER = {"spoils": 0, "warns": 1, "info": 2}


@dataclass(frozen=True)
class AuditReport:
    """What an audit found, the worst first."""

    findings: tuple[Finding, ...]

    @property
    def spoiled(self) -> bool:
        """Whether an evaluation on these cells would report too high a score."""
        return any(finding.severity == "spoils" for finding in self.findings)

    def rows(self) -> list[tuple[str, str, str, int, str]]:
        """Severity, finding, set, number of cells and detail of each finding, to be printed as a table."""
        return [(f.severity, f.name, f.where, f.cells, f.detail) for f in self.findings]

    def as_dict(self) -> dict[str, Any]:
        """The report as ``audit.json`` holds it."""
        return {"spoiled": self.spoiled, "findings": [finding.as_dict() for finding in self.findings]}

    def refuse(self) -> None:
        """Stop where an evaluation would be spoiled.

        Raises:
            CheckFailed: one line that names the first finding and how many there are.
        """
        spoiling = [finding for finding in self.findings if finding.severity == "spoils"]
        if spoiling:
            first = spoiling[0]
            more = f" (and {len(spoiling) - 1} more findings that spoil it)" if len(spoiling) > 1 else ""
            raise CheckFailed(f"{first.where}: {first.name}: {first.detail}; an evaluation would be spoiled{more}")


def audit(
    sets: Sequence[CellSet],
    *,
    pretrain: Sequence[CellSet] = (),
    near: bool = False,
    group: str | None = None,
    label: str = "label",
    overlay: Labels | None = None,
    folds: pd.DataFrame | None = None,
) -> AuditReport:
    """Look for what would make an evaluation on ``sets`` untrue, and for images that a person should see.

    Exact duplicates go by the content hash within ``cell_id``. Pixels are read once, a block at a time.

    Args:
        sets: the sets that are evaluated; each cell should stand in one of them only.
        pretrain: the sets that an encoder was pre-trained on; none of their cells should be evaluated.
        near: also look for near duplicates by perceptual hash.
        group: a column that must not stand on both sides of a split or fold, besides ``patient`` and ``slide``.
        label: the column that holds the class.
        overlay: labels laid over the tables.
        folds: folds to check, as :func:`~leukoscope.cells.folds.make_folds` gives them.

    Raises:
        InputError: when a column is missing, or labels or folds name none of the cells.
    """
    table = _tables(sets, label, overlay)
    _refuse_missing(table, sets, group, label, overlay)
    seen = _tables(pretrain, label, None) if pretrain else table.iloc[:0]
    asked = () if group is None else (group,)
    groups = tuple(name for name in dict.fromkeys((*_GROUPS, *asked)) if name in table.columns)
    findings = leaks.shared(table) + leaks.pretrained(table, seen, groups)
    findings += leaks.across_split(table, groups)
    if folds is not None:
        findings += leaks.across_folds(table, folds, groups)
    findings += leaks.conflicting(table) + leaks.repeated(table)
    hashes = []
    for cellset in (*sets, *(pretrain if near else ())):
        facts = scan(cellset, hashes=near)
        findings += pixel_findings(cellset, facts)
        hashes.append(facts.hashes)
    if near:
        findings += near_duplicates(pd.concat([table, seen]), [found for found in hashes if found is not None])
    findings += _class_counts(table)
    return AuditReport(tuple(sorted(findings, key=lambda finding: _ORDER[finding.severity])))


def _tables(sets: Sequence[CellSet], label: str, overlay: Labels | None) -> pd.DataFrame:
    """The tables of all sets in one, with the columns ``set`` and ``content``; ``label`` as text or None."""
    tables = []
    names: list[str] = []
    for cellset in sets:
        cells = cellset.cells.copy()
        cells["content"] = contents_of(cells)
        names.append(_name(cellset, names))
        cells["set"] = names[-1]
        if overlay is not None:
            cells["label"] = overlay.of(cellset.ids)
        elif label in cells.columns:
            cells["label"] = cells[label].astype("string").astype(object)
        else:
            cells["label"] = None
        tables.append(cells)
    return pd.concat(tables, ignore_index=True)


def _name(cellset: CellSet, taken: Sequence[str]) -> str:
    """The set's path; a selection says how much of its folder it is, and two of one name are told apart."""
    name = str(cellset.path)
    if cellset.rows is not None:
        name += f" ({len(cellset)} of {cellset.info.count} cells)"
    return f"{name} again" if name in taken else name


def _refuse_missing(
    table: pd.DataFrame, sets: Sequence[CellSet], group: str | None, label: str, overlay: Labels | None
) -> None:
    names = ", ".join(str(cellset.path) for cellset in sets)
    known = ", ".join(name for name in table.columns if name not in ("set", "content"))
    if group is not None and group not in table.columns:
        raise InputError(f"--group {group}: no such column in {names}; there is {known}")
    if overlay is None and label != "label" and label not in table.columns:
        raise InputError(f"--label {label}: no such column in {names}; there is {known}")
    if overlay is not None and table["label"].isna().all():
        raise InputError(f"--labels: the file names none of the cells of {names}; is it of another CellSet?")


def _class_counts(table: pd.DataFrame) -> list[Finding]:
    findings = []
    for name, cells in table.groupby("set", sort=False):
        counts = cells["label"].value_counts().sort_index()
        unlabelled = len(cells) - int(counts.sum())
        parts = [f"{label} {count}" for label, count in counts.items()]
        parts += [f"without a label {unlabelled}"] if unlabelled else []
        findings.append(Finding("class counts", "info", str(name), len(cells), ", ".join(parts)))
        rare = counts[counts < _RARE]
        if len(rare):
            few = ", ".join(f"{label} {count}" for label, count in rare.items())
            detail = f"fewer than {_RARE} cells, too few to cross-validate: {few}"
            findings.append(Finding("rare classes", "warns", str(name), int(np.sum(rare)), detail))
    return findings
