from dataclasses import dataclass

from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings
from leukoscope.methods.moco import MoCo, MoCoSettings
from leukoscope.training.method import Method


@dataclass(frozen=True)
class Entry:
    """A method's class, called as ``method(backbone, settings, cells=N, seed=SEED)``, and its settings."""

    method: type[Method]
    settings: type[Settings]


METHODS: dict[str, Entry] = {
    "moco": Entry(MoCo, MoCoSettings),
}


def entry(name: str) -> Entry:
    """The method called ``name``.

    Raises:
        InputError: when there is none.
    """
    if name not in METHODS:
        raise InputError(f"method {name!r}: unknown; choose one of {', '.join(sorted(METHODS))}")
    return METHODS[name]
