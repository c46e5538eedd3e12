from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leukoscope.differential.audited_leukocytes import AuditedShare, audited_leukocytes, leukocyte_cells_needed
from leukoscope.differential.leukocytes import Leukocytes
from leukoscope.differential.ranges import Range, Unit, flags
from leukoscope.differential.sample import Sample


@dataclass(frozen=True)
class LeukocyteClasses:
    """Which classes of a sample are leukocytes ``(K,)``; ``assumed`` names those that nobody said anything of."""

    are: tuple[bool, ...]
    assumed: tuple[str, ...]

    @classmethod
    def of(cls, sample: Sample) -> "LeukocyteClasses":
        """As ``sample`` was counted by ``classify``, whose laboratory may have said so; else by what is known here."""
        if (sample.path / "differential.json").is_file():
            told = sample.differential
            are = tuple(told["classes"][name]["leukocytes"] is not None for name in sample.classes)
            return cls(are, tuple(told.get("assumed_leukocytes", ())))
        known = Leukocytes()
        kinds = [known.kind_of(name) for name in sample.classes]
        are = tuple(kind is None or kind.is_leukocyte for kind in kinds)
        return cls(are, tuple(known.assumed(sample.classes)))


@dataclass(frozen=True)
class LeukocyteCount:
    """What a review says of the leukocytes: ``n`` that there are as reviewed, and for each class its share or ratio.

    ``as_reviewed`` ``(K,)`` are shares of those, and for what is counted beside them the number for each; None where
    there is none, or the class is neither. ``needed`` cells of the audit would bring all shares to the precision asked.
    ``total`` is the number of leukocytes in 10^9/L that ``classify`` was told, None where it was told none; ``ranges``
    are the reference ranges of each class by which it flagged its count.
    """

    n: int
    as_reviewed: tuple[float | None, ...]
    audited: tuple[AuditedShare | None, ...]
    needed: int
    total: float | None = None
    ranges: tuple[Mapping[Unit, Range], ...] = ()

    @classmethod
    def of(
        cls, sample: Sample, current: np.ndarray, said: np.ndarray, truth: np.ndarray, audit: np.ndarray, to: float
    ) -> "LeukocyteCount":
        """The count by what the cells are called now, ``current`` ``(K + 1,)``, and by the audit.

        For the others see :func:`~leukoscope.differential.audited_leukocytes.leukocyte_cells_needed`.
        """
        are = LeukocyteClasses.of(sample).are
        audited = audited_leukocytes(said, truth, audit, sample.classes, are)
        n = int(current[:-1][list(are)].sum())
        shares = [None if share is None or n == 0 else float(current[k] / n) for k, share in enumerate(audited)]
        needed = leukocyte_cells_needed(audited, said, truth, audit, are, to)
        return cls(n, tuple(shares), tuple(audited), needed, _total(sample), _ranges(sample))

    def document(self, k: int) -> dict[str, Any]:
        """What a signed report says of class k beside its share of all cells: ``leukocytes`` and ``per_leukocyte``.

        Where the total is known, a share of the leukocytes that an audit proves has its ``absolute`` number, too: in
        10^9/L, between ``low`` and ``high`` for the patient. The total's own error is not known here. ``flags`` tells
        where it lies outside the reference ranges.
        """
        share = self.audited[k]
        if share is None:
            return {"leukocytes": None, "per_leukocyte": None}
        told: dict[str, Any] = {
            "as_reviewed": self.as_reviewed[k],
            "proportion": share.proportion,
            "composition": list(share.composition) if share.composition else None,
            "patient": list(share.patient) if share.patient else None,
        }
        is_leukocyte = share.of == "leukocytes"
        if is_leukocyte and self.total is not None and share.proportion is not None and share.patient:
            value, low, high = (self.total * each for each in (share.proportion, *share.patient))
            told["absolute"] = {"value": value, "low": low, "high": high, "total": self.total}
        if is_leukocyte and self.ranges and share.proportion is not None and share.patient:
            low, high = share.patient
            audited = {"value": share.proportion, "low": low, "high": high}
            told["flags"] = flags({"leukocytes": audited, "absolute": told.get("absolute")}, self.ranges[k])
        return {"leukocytes": told if is_leukocyte else None, "per_leukocyte": None if is_leukocyte else told}


def _total(sample: Sample) -> float | None:
    """The leukocytes in 10^9/L, as ``classify`` was told."""
    if not (sample.path / "differential.json").is_file():
        return None
    total = sample.differential.get("total")
    return None if total is None else float(total)


def _ranges(sample: Sample) -> tuple[Mapping[Unit, Range], ...]:
    """The reference ranges of each class by which ``classify`` flagged its count; none where it kept none."""
    if not (sample.path / "differential.json").is_file():
        return ()
    kept = (sample.differential["classes"][name].get("ranges", {}) for name in sample.classes)
    return tuple({unit: Range(*limits) for unit, limits in each.items()} for each in kept)


def by_leukocytes(rows: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, dict[str, Any], bool]]:
    """What a table of the leukocytes shows of a report's ``rows``: a class, what is said of it, and whether it is none.

    Classes that are neither leukocytes nor counted by them are left out, and so are all of a report that was signed
    before there were shares of leukocytes.
    """
    told = [
        (name, row.get(key), key == "per_leukocyte") for key in ("leukocytes", "per_leukocyte")
        for name, row in rows.items()
    ]  # fmt: skip
    return [(name, row, beside) for name, row, beside in told if row is not None]
