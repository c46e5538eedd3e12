"""Classes taken together: predictions about named groups of them, made from predictions about the classes."""

import difflib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from leukoscope.common.errors import InputError
from leukoscope.scores.predictions import COLUMNS, classes_of

REST = "*"
Groups = Mapping[str, Sequence[str]]


def resolve_groups(groups: Groups, classes: Sequence[str]) -> dict[str, list[str]]:
    """The classes of each group, every class in one of them; a group given as ``*`` takes the classes that are left.

    Raises:
        InputError: for fewer than two groups, one without classes, an unknown class, or a class in two groups or none.
    """
    left = [name for name in classes if not any(name in members for members in groups.values())]
    resolved = {name: left if _is_rest(members) else list(members) for name, members in groups.items()}
    if len(resolved) < 2:
        raise InputError(f"class groups: {len(resolved)} given; name at least two, such as lymphoid=LYM,CLL;other=*")
    home: dict[str, str] = {}
    for group, members in resolved.items():
        if not members:
            raise InputError(f"class groups: {group!r} holds no classes; give it some, or leave it out")
        for name in members:
            if name not in classes:
                close = difflib.get_close_matches(name, classes, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"the task has {', '.join(classes)}"
                raise InputError(f"class groups: {group!r} names {name!r}, which is no class; {hint}")
            if name in home:
                raise InputError(f"class groups: {name!r} is in {home[name]!r} and {group!r}; a class has one group")
            home[name] = group
    missing = [name for name in classes if name not in home]
    if missing:
        raise InputError(
            f"class groups: {missing[0]!r} is in none of them; add it to one, or a group for the rest: other=*"
        )
    return resolved


def parse_groups(text: str) -> dict[str, list[str]]:
    """Read ``--class-groups``: ``lymphoid=LYM,CLL;other=*``.

    Raises:
        InputError: when a part is not ``GROUP=CLASS,...``, or a group is named twice.
    """
    groups: dict[str, list[str]] = {}
    for part in text.split(";"):
        name, separator, members = (word.strip() for word in part.partition("="))
        if not separator or not name or not members:
            raise InputError(f"--class-groups: {part.strip()!r} is not GROUP=CLASS,CLASS,...")
        if name in groups:
            raise InputError(f"--class-groups: {name!r} is given twice; put its classes into one list")
        groups[name] = [member.strip() for member in members.split(",")]
    return groups


def grouped(table: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Predictions about groups, from those about classes: a group's probability is the sum over its classes.

    The predicted group is therefore that of the largest sum, which need not be the group of the most probable class:
    two classes of 0.3 outweigh one of 0.4. Where the question is the group, the sum is its probability, to six digits:
    0.6 and 0.2 of the votes are then as many as 0.8, where their float32 add up to a little more.

    Args:
        table: predictions about classes.
        groups: of :func:`resolve_groups`, every class in one of them.
    """
    home = {name: group for group, members in groups.items() for name in members}
    told = table[[*COLUMNS]].assign(label=table["label"].map(home))
    probabilities = table[[f"p_{name}" for name in classes_of(table)]].astype("float64")
    sums = {
        f"p_{group}": _six_digits(probabilities[[f"p_{name}" for name in members]].sum(axis=1).to_numpy())
        for group, members in groups.items()
    }
    return told.assign(**sums)


def _six_digits(values: np.ndarray) -> np.ndarray:
    """Probabilities rounded to six significant digits."""
    unit = 10.0 ** (np.floor(np.log10(np.maximum(values, np.finfo(np.float32).tiny))) - 5)
    rounded: np.ndarray = np.round(values / unit) * unit
    return rounded


def _is_rest(members: Sequence[str]) -> bool:
    return list(members) == [REST]
