import pandas as pd

from leukoscope.cells.datasets.entry import Entry, Stated


def counts(cells: pd.DataFrame, entry: Entry) -> dict[str, int]:
    """Cells a class: first the classes of the catalogue in its order, then others by name."""
    if "label" not in cells.columns:
        return {}
    found = cells["label"].value_counts()
    others = sorted(set(found.index) - set(entry.kinds))
    return {name: int(found.get(name, 0)) for name in (*entry.kinds, *others)}


def differences(cells: pd.DataFrame, entry: Entry) -> list[str]:
    """Plain lines that tell where the packed cells are not what the papers state, nor of the catalogue's classes."""
    lines = []
    if entry.classes:
        for name, count in counts(cells, entry).items():
            if name not in entry.kinds:
                lines.append(f"{name!r}: {count} cells of a class that the catalogue does not know; the name is kept")
        if unlabelled := int(cells["label"].isna().sum() if "label" in cells.columns else len(cells)):
            lines.append(f"{unlabelled} cells without a class")
    for stated in entry.stated:
        lines.extend(_against(_part(cells, stated), stated))
    return lines


def beside(counts: dict[str, int], entry: Entry) -> tuple[list[str], list[list[str]]]:
    """A table of the packed cells a class beside each statement about the whole set: its columns and its rows."""
    whole = [stated for stated in entry.stated if stated.classes and not stated.only]
    rows = [
        [name, f"{count:,}", *(f"{stated.classes[name]:,}" if name in stated.classes else "" for stated in whole)]
        for name, count in counts.items()
    ]
    return ["class", "packed", *(stated.by for stated in whole)], rows


def _part(cells: pd.DataFrame, stated: Stated) -> pd.DataFrame:
    for column, value in stated.only.items():
        cells = cells[cells[column] == value] if column in cells.columns else cells.iloc[:0]
    return cells


def _against(cells: pd.DataFrame, stated: Stated) -> list[str]:
    part = "".join(f" of {column} {value}" for column, value in stated.only.items())
    labels = cells["label"] if "label" in cells.columns else pd.Series(dtype=object)
    numbers = [(f"{name}{part}", int((labels == name).sum()), count) for name, count in stated.classes.items()]
    if stated.cells is not None:
        numbers.append((f"all cells{part}", len(cells), stated.cells))
    if stated.patients is not None:
        patients = cells["patient"].nunique() if "patient" in cells.columns else 0
        numbers.append((f"patients{part}", patients, stated.patients))
    return [
        f"{what}: {here:,} packed, {there:,} stated by {stated.by}" for what, here, there in numbers if here != there
    ]
