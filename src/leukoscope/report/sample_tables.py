from typing import Any

from leukoscope.differential.ranges import Range, ReferenceRanges
from leukoscope.report.tables import NO_VALUE, Field, Group, Table

_FLAGS = {"low": "↓", "high": "↑"}


def differential_table(differential: dict[str, Any], ranges: ReferenceRanges) -> Table:
    """Each class: what it was called, the corrected share with its two intervals, and where it should lie."""
    total = differential["total"]
    rows = []
    for name, row in differential["classes"].items():
        share = row["leukocytes"]
        fields = [
            Field(name),
            Field(f"{row['count']:,}", small=f"{100 * row['proportion']:.1f} %"),
            Field(f"{100 * row['corrected_proportion']:.1f}", strong=True),
            Field(_percent(row["composition"])),
            Field(_percent(row["patient"])),
            Field(f"{100 * share['value']:.1f}" if share else NO_VALUE, small=_of_share(share)),
            _range_field(ranges.of(name, "percent"), _flag(row, "percent")),
        ]
        if total is not None:
            absolute = row["absolute"]
            fields += [
                Field(
                    f"{absolute['value']:.2f}" if absolute else NO_VALUE, small=_of_share(absolute, scale=1, digits=2)
                ),
                _range_field(ranges.of(name, "absolute"), _flag(row, "absolute")),
            ]
        rows.append(fields)
    columns = [
        "class",
        "called",
        "corrected, %",
        "of these cells",
        "of the patient",
        "of leukocytes, %",
        "range, %",
        *([] if total is None else ["10⁹/L", "range, 10⁹/L"]),
    ]
    caption = (
        f"The differential of {differential['n']:,} cells, corrected for the classifier’s confusions. Two 95 % "
        "intervals: for the share of these very cells, where the classifier’s errors are all that is unknown, and for "
        "the patient’s share, with the error of counting."
    )
    note = "↓ ↑ outside the reference range; with a question mark where the interval reaches into it."
    return Table("differential", caption, columns, [Group("", rows)], note=note)


def manual_table(differential: dict[str, Any]) -> Table:
    """What a person's differential of so many cells that found the same shares would prove."""
    classes = differential["classes"]
    cells = list(next(iter(classes.values()))["manual"])
    rows = [
        [
            Field(name),
            Field(f"{100 * row['corrected_proportion']:.1f}"),
            *(Field(_percent(row["manual"][n])) for n in cells),
        ]
        for name, row in classes.items()
    ]
    caption = (
        "What counting so many cells by eye would prove of the patient, had it found these shares: exact binomial "
        "limits (Rümke)."
    )
    return Table("manual", caption, ["class", "share, %", *(f"{n} cells" for n in cells)], [Group("", rows)])


def estimates_table(differential: dict[str, Any]) -> Table:
    """The raw count beside three ways to correct it."""
    keys = {"as called": "proportion", "corrected": "corrected_proportion", "adjusted count": "adjusted_proportion"}
    keys["expectation-maximisation"] = "em_proportion"
    rows = [
        [Field(name), *(Field(f"{100 * row[key]:.1f}") for key in keys.values())]
        for name, row in differential["classes"].items()
    ]
    caption = "Shares in per cent by four estimates. Where they disagree much, the sample is unlike the training cells."
    return Table("estimates", caption, ["class", *keys], [Group("", rows)])


def _range_field(limits: Range | None, flag: dict[str, Any] | None) -> Field:
    if limits is None:
        return Field(NO_VALUE)
    mark = "" if flag is None else f" {_FLAGS[flag['flag']]}{'' if flag['certain'] else '?'}"
    return Field(f"{limits.low:g}–{limits.high:g}{mark}", strong=bool(mark))


def _flag(row: dict[str, Any], unit: str) -> dict[str, Any] | None:
    return next((each for each in row["flags"] if each["unit"] == unit), None)


def _percent(limits: list[float]) -> str:
    return f"{100 * limits[0]:.1f}–{100 * limits[1]:.1f}"


def _of_share(share: dict[str, float] | None, *, scale: float = 100, digits: int = 1) -> str:
    return "" if share is None else f"{scale * share['low']:.{digits}f}–{scale * share['high']:.{digits}f}"
