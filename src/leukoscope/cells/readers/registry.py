from pathlib import Path

from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.fields import Fields
from leukoscope.cells.readers.images import Images
from leukoscope.cells.readers.manifest import Manifest
from leukoscope.cells.readers.montage import Montages
from leukoscope.cells.readers.npz import MedMnist
from leukoscope.cells.readers.protocol import Reader
from leukoscope.cells.readers.rtdc import RtDc
from leukoscope.common.errors import InputError

# The first that claims a source reads it; plain images claim every folder, so they come last.
READERS: dict[str, Reader] = {
    "npz": MedMnist(),
    "fields": Fields(),
    "manifest": Manifest(),
    "montage": Montages(),
    "rtdc": RtDc(),
    "images": Images(),
}


def reader_for(source: Path, settings: PackSettings) -> tuple[str, Reader]:
    """The reader of ``source`` and its name: the one asked for, else the first that claims it.

    Raises:
        InputError: when the source is missing, no reader knows it or has the name asked for, or a setting is for
            other readers.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    name = settings.reader or _claimant(source, settings)
    if name not in READERS:
        raise InputError(f"--reader {name}: unknown; the readers are {', '.join(READERS)}")
    _refuse_unused(name, READERS[name], settings)
    return name, READERS[name]


def _claimant(source: Path, settings: PackSettings) -> str:
    for name, reader in READERS.items():
        if reader.claims(source, settings):
            return name
    raise InputError(f"{source}: of a kind that no reader knows; name one with --reader {'|'.join(READERS)}")


def _refuse_unused(name: str, reader: Reader, settings: PackSettings) -> None:
    """An option that the reader would pass over in silence is a mistake: --agree on a folder, say."""
    special = frozenset[str]().union(*(other.uses for other in READERS.values()))
    unused = [key for key in settings.model_dump(exclude_defaults=True) if key in special - reader.uses]
    if unused:
        users = [other for other, each in READERS.items() if unused[0] in each.uses]
        option = {"columns": "column"}.get(unused[0], unused[0]).replace("_", "-")
        raise InputError(f"--{option}: the reader {name} has no use for it; it is for {', '.join(users)}")
