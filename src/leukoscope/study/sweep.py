from collections.abc import Mapping
from itertools import product
from typing import Any


def trials(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Expand every ``{sweep: [...]}`` in ``settings``: one mapping a combination, by a name that tells it apart.

    ``{"lr": {"sweep": [0.01, 0.05]}, "size": 64}`` gives ``lr=0.01`` and ``lr=0.05``; without a sweep there is one
    trial, named ``""``.

    Raises:
        ValueError: when a sweep has no list of values.
    """
    swept = list(_swept(settings, ()))
    found = {}
    for values in product(*(choices for _, choices in swept)):
        trial = _copy(settings)
        for (keys, _), value in zip(swept, values, strict=True):
            _put(trial, keys, value)
        name = ",".join(f"{'.'.join(keys)}={value}" for (keys, _), value in zip(swept, values, strict=True))
        found[name] = trial
    return found


def _swept(settings: Mapping[str, Any], above: tuple[str, ...]) -> list[tuple[tuple[str, ...], list[Any]]]:
    found: list[tuple[tuple[str, ...], list[Any]]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            if set(value) == {"sweep"}:
                if not isinstance(value["sweep"], list) or not value["sweep"]:
                    raise ValueError(f"{'.'.join((*above, key))}: sweep needs a list of values")
                found.append(((*above, key), list(value["sweep"])))
            else:
                found.extend(_swept(value, (*above, key)))
    return found


def _copy(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in settings.items()}


def _put(settings: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    *parents, last = keys
    for parent in parents:
        settings = settings[parent]
    settings[last] = value
