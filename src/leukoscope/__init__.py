"""Leukoscope turns unlabelled single-cell images into a leukocyte differential.

Every verb of the command line is a function here: ``leukoscope.pack``, ``leukoscope.pretrain``, ... They are
imported when first used, so that ``import leukoscope`` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("leukoscope")

_VERBS = {
    "pack": "leukoscope.cells.pack",
    "audit": "leukoscope.cells.audit",
    "simulate": "leukoscope.cells.simulate",
    "pretrain": "leukoscope.methods.pretrain",
    "embed": "leukoscope.encoders.embed",
    "evaluate": "leukoscope.probes.evaluate",
    "fit": "leukoscope.differential.fit",
    "classify": "leukoscope.differential.classify",
    "study": "leukoscope.study.run",
}

__all__ = ["__version__", *_VERBS]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(import_module(_VERBS[name]), name)
    raise AttributeError(f"module 'leukoscope' has no attribute {name!r}")
