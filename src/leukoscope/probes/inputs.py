from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from leukoscope.cells.few import FewLabels
from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings, with_overrides
from leukoscope.encoders.features import Features
from leukoscope.probes.crossval import ProbeSettings
from leukoscope.probes.supervised import SupervisedSettings


class EvaluateSettings(Settings):
    """What ``--set`` reaches in an evaluation: ``probes``, ``few`` and, by name, ``supervised`` and ``finetune``."""

    probes: ProbeSettings = ProbeSettings()
    supervised: dict[str, SupervisedSettings] = Field(default_factory=dict)
    finetune: dict[str, dict[str, Any]] = Field(default_factory=dict)
    few: FewLabels | None = None

    @classmethod
    def of_flags(
        cls,
        overrides: Iterable[str],
        supervised: Sequence[str] = (),
        finetune: Sequence[str] = (),
        *,
        device: str,
        few: str | None = None,
    ) -> "EvaluateSettings":
        """From ``--set``, ``--supervised``, ``--finetune``, ``--device`` and ``--few-labels``.

        Raises:
            InputError: for a key or value that is wrong.
        """
        given: dict[str, Any] = {
            "probes": {"device": device},
            "supervised": {model: {} for model in supervised},
            "finetune": {name: {"encoder": encoder} for name, encoder in map(_named, finetune)},
        }
        if few is not None:
            counts = FewLabels.parse({"counts": few.split(",")}, where="--few-labels").counts
            given["few"] = {"counts": counts}
        return cls.parse(with_overrides(given, overrides), where="--set")


def _named(text: str) -> tuple[str, str]:
    name, separator, encoder = text.partition("=")
    if not separator or not name or not encoder:
        raise InputError(f"--finetune {text}: expected NAME=ENCODER")
    return name, encoder


def read_features(given: Sequence[str]) -> dict[str, Features]:
    """Read features given as ``FILE`` (the encoder then has the file's name) or ``NAME=FILE``.

    Raises:
        InputError: when a file is no features, or two encoders have one name.
    """
    found: dict[str, Features] = {}
    for text in given:
        name, separator, file = text.partition("=")
        # Features of a sweep's trial have a = in their own name.
        named = bool(separator) and not Path(text).is_file()
        path = Path(file if named else text)
        name = name if named else path.stem
        if name in found:
            raise InputError(f"{path}: there is an encoder {name!r} already; name it with NAME={path}")
        found[name] = Features.read(path)
    return found
