import difflib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from leukoscope.common.errors import InputError


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys and say which key was meant."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str) -> Self:
        """Validate ``data``; ``where`` names its origin in the message.

        Raises:
            InputError: one line with the first offending key, and the key that was probably meant.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise InputError(f"{where}: {_first_fault(error, cls)}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        InputError: when the file is missing, is no YAML, or is not a mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a mapping of keys to values")
    return data


def with_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Lay ``key.inner=value`` strings (the ``--set`` option; values are YAML) over a copy of ``data``.

    Raises:
        InputError: when an override has no ``=``, walks through something that is not a mapping, or is no YAML.
    """
    result = deepcopy(dict(data))
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise InputError(f"--set {override}: expected key=value")
        *parents, last = key.split(".")
        target = result
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise InputError(f"--set {override}: {parent!r} has no keys below it")
        try:
            target[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {override}: not a YAML value ({' '.join(str(error).split())})") from None
    return result


def _first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    # A misspelt required key is both unknown and missing: the spelling is the news.
    faults = error.errors()
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    key = ".".join(str(part) for part in fault["loc"]) or "settings"
    if fault["type"] == "extra_forbidden":
        known = _known_keys(model, fault["loc"][:-1])
        close = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
        hint = (
            f"; did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(sorted(known))}" if known else ""
        )
        return f"unknown key {key!r}{hint}"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "missing":
        return f"{key}: required, but not given"
    # What is wrong with several keys together has all of them as its input: too much to show.
    given = "" if isinstance(fault["input"], Mapping) else f" (given: {fault['input']!r})"
    return f"{key}: {message[0].lower()}{message[1:]}{given}"


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys of the settings model found by walking ``location`` down from ``model``."""
    named = False
    for part in location:
        if isinstance(part, int) or named:  # a place in a list or a name in a mapping: its items have one type
            named = False
            continue
        field = model.model_fields.get(part)
        inner = _settings_in(field.annotation if field else None)
        if field is None or inner is None:
            return []
        model, named = inner, get_origin(field.annotation) is dict
    return list(model.model_fields)


def _settings_in(annotation: Any) -> type[BaseModel] | None:
    """The first settings model in an annotation such as ``Inner | None`` or ``tuple[Inner, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _settings_in(part))), None)
