import difflib
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml

from leukoscope.cells.datasets.entry import Entry
from leukoscope.common.errors import InputError


@cache
def catalogue() -> dict[str, Entry]:
    """All published sets that are known, by name. One more set is one more file in ``entries/``."""
    folder = files(__package__) / "entries"
    entries = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            data = yaml.safe_load(file.read_text(encoding="utf-8"))
            name = Path(file.name).stem
            entries[name] = Entry.parse({"name": name, **data}, where=f"datasets/entries/{file.name}")
    return entries


def find(name: str, where: str = "datasets") -> Entry:
    """The entry of that name; ``where`` names its origin in the message.

    Raises:
        InputError: when there is none.
    """
    known = catalogue()
    if name not in known:
        titled = [each for each, entry in known.items() if name.lower() in entry.title.lower()]
        close = titled or difflib.get_close_matches(name.lower(), known, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"{where}: no set {name!r} in the catalogue; {meant}Known: {', '.join(known)}")
    return known[name]
