from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["spoils", "warns", "info"]
_EXAMPLES = 5
_CELLS_AN_EXAMPLE = 4


@dataclass(frozen=True)
class Finding:
    """One thing an audit found.

    ``spoils``: an evaluation on these cells would report too high a score. ``warns``: a person should look.
    ``info``: a count. ``examples`` holds a few groups of ``cell_id`` that belong together.
    """

    name: str
    severity: Severity
    where: str
    cells: int
    detail: str
    examples: tuple[tuple[str, ...], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON holds it."""
        return asdict(self)


def first_examples(groups: Iterable[Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    """The first few groups, cut to a few cells each."""
    found: list[tuple[str, ...]] = []
    for group in groups:
        if len(found) == _EXAMPLES:
            break
        found.append(tuple(group)[:_CELLS_AN_EXAMPLE])
    return tuple(found)
