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
        InputError: when the source is missing, or no reader knows it or has the name asked for.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if settings.reader is not None:
        if settings.reader not in READERS:
            raise InputError(f"--reader {settings.reader}: unknown; the readers are {', '.join(READERS)}")
        return settings.reader, READERS[settings.reader]
    for name, reader in READERS.items():
        if reader.claims(source, settings):
            return name, reader
    raise InputError(f"{source}: of a kind that no reader knows; name one with --reader {'|'.join(READERS)}")
