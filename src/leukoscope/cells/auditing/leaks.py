import pandas as pd

from leukoscope.cells.auditing.finding import Finding, first_examples
from leukoscope.common.errors import InputError

_CONTENT = "exact duplicates"


def repeated(table: pd.DataFrame) -> list[Finding]:
    """Exact duplicates within each set. They do no harm as long as they stay together, which folds see to."""
    findings = []
    for name, cells in table.groupby("set", sort=False):
        again = cells[cells.duplicated("content", keep=False)]
        if len(again):
            images = again["content"].nunique()
            detail = f"{images} images occur {len(again)} times; folds and splits made here keep them together"
            findings.append(Finding(_CONTENT, "warns", str(name), len(again), detail, _groups(again, "content")))
    return findings


def shared(table: pd.DataFrame) -> list[Finding]:
    """Images that occur in several sets; sets that are compared or follow one another should share none."""
    both = _on_both_sides(table, "content", "set")
    if both.empty:
        return []
    detail = f"{both['content'].nunique()} images occur in more than one set"
    where = ", ".join(dict.fromkeys(both["set"]))
    return [Finding("cells in two sets", "spoils", where, len(both), detail, _groups(both, "content"))]


def conflicting(table: pd.DataFrame) -> list[Finding]:
    """One image under two labels: at least one of them is wrong."""
    both = _on_both_sides(table, "content", "label")
    if both.empty:
        return []
    pairs = both.groupby("content")["label"].agg(lambda labels: " and ".join(sorted(set(labels)))).value_counts()
    detail = "; ".join(f"{count} images under {names}" for names, count in pairs.head(3).items())
    where = ", ".join(dict.fromkeys(both["set"]))
    return [Finding("one image, two labels", "warns", where, len(both), detail, _groups(both, "content"))]


def across_split(table: pd.DataFrame, groups: tuple[str, ...]) -> list[Finding]:
    """What stands on both sides of the table's own ``split`` column."""
    if "split" not in table.columns:
        return []
    findings = []
    for name, cells in table.groupby("set", sort=False):
        for key in ("content", *groups):
            both = _on_both_sides(cells, key, "split")
            if len(both):
                what = _CONTENT if key == "content" else key
                parts = ", ".join(sorted(both["split"].unique()))
                detail = f"{both[key].nunique()} {_plural(key)} stand in more than one of {parts}"
                place = str(name)
                findings.append(Finding(f"{what} across split", "spoils", place, len(both), detail, _groups(both, key)))
    return findings


def across_folds(table: pd.DataFrame, folds: pd.DataFrame, groups: tuple[str, ...]) -> list[Finding]:
    """What a fold both trains on and tests on.

    Raises:
        InputError: when the folds name none of the cells.
    """
    cells = folds.merge(table, on="cell_id", how="inner")
    if cells.empty:
        raise InputError("folds: they name none of the cells; are they of another CellSet?")
    cells["run"] = cells["repeat"].astype(str) + "/" + cells["fold"].astype(str)
    findings = []
    for key in ("content", *groups):
        known = cells.dropna(subset=[key])
        sides = known.groupby(["run", key])["role"].transform("nunique")
        both = known[sides > 1]
        if len(both):
            what = _CONTENT if key == "content" else key
            n_keys, n_folds = both[key].nunique(), both["run"].nunique()
            detail = f"{n_keys} {_plural(key)} stand in both training and test cells, in {n_folds} folds"
            where = ", ".join(dict.fromkeys(both["set"]))
            once = both.drop_duplicates("cell_id")
            findings.append(Finding(f"{what} across folds", "spoils", where, len(once), detail, _groups(once, key)))
    return findings


def pretrained(table: pd.DataFrame, pretrain: pd.DataFrame, groups: tuple[str, ...]) -> list[Finding]:
    """Cells of the evaluation that were pre-trained on, and patients whose other cells were."""
    if pretrain.empty:
        return []
    findings = []
    seen = table[table["content"].isin(set(pretrain["content"]))]
    names = ", ".join(dict.fromkeys(pretrain["set"]))
    if len(seen):
        where = ", ".join(dict.fromkeys(seen["set"]))
        detail = f"{seen['content'].nunique()} images were also in {names}"
        found = Finding("pre-training cells", "spoils", where, len(seen), detail, _groups(seen, "content"))
        findings.append(found)
    for key in (key for key in groups if key in pretrain.columns):
        same = table[table[key].isin(set(pretrain[key].dropna()))]
        if len(same):
            where = ", ".join(dict.fromkeys(same["set"]))
            detail = f"{same[key].nunique()} {_plural(key)} have other cells in {names}; say so beside the scores"
            findings.append(Finding(f"{key} in pre-training", "warns", where, len(same), detail))
    return findings


def _on_both_sides(table: pd.DataFrame, key: str, side: str) -> pd.DataFrame:
    """The cells whose ``key`` occurs with more than one value of ``side``."""
    known = table.dropna(subset=[key, side])
    return known[known.groupby(key)[side].transform("nunique") > 1]


def _groups(table: pd.DataFrame, key: str) -> tuple[tuple[str, ...], ...]:
    return first_examples(cells for _, cells in table.groupby(key, sort=False)["cell_id"])


def _plural(key: str) -> str:
    return "images" if key == "content" else f"values of {key!r}"
