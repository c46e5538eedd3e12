import difflib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

import yaml

from leukoscope.common.errors import InputError
from leukoscope.common.settings import with_overrides
from leukoscope.probes.stages import StageSettings

DEFAULT = "two-step"


def preset_names() -> list[str]:
    """The names of the presets that come with Leukoscope; each file says which paper it is from."""
    entries = (files(__package__) / "presets").iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml"))


def stage_settings(
    preset: str | None, changes: Mapping[str, Any], where: str, *, overrides: Iterable[str] = ()
) -> StageSettings:
    """The settings of ``preset`` (None: nothing) under ``changes``, whose inner keys are laid over its own.

    Args:
        preset: one of :func:`preset_names`.
        changes: keys of :class:`~leukoscope.probes.stages.StageSettings`.
        where: the origin of ``changes``, for messages.
        overrides: ``key.inner=value``, laid over both.

    Raises:
        InputError: when there is no such preset, or a key or value is wrong.
    """
    data = _laid_over(_read(preset, where) if preset else {}, changes)
    return StageSettings.parse(with_overrides(data, overrides), where=where)


def _read(preset: str, where: str) -> dict[str, Any]:
    known = preset_names()
    if preset not in known:
        close = difflib.get_close_matches(preset, known, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"{where}: no preset {preset!r}; {meant}Known: {', '.join(known)}")
    text = (files(__package__) / "presets" / f"{preset}.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
    return data


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for key, value in above.items():
        old = found.get(key)
        found[key] = _laid_over(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return found
