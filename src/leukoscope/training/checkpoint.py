import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from leukoscope.common.errors import InputError
from leukoscope.common.files import whole_file

FORMAT_VERSION = 1


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings and containers of these), whole or not at all."""
    with whole_file(path) as partial:
        torch.save({"format_version": FORMAT_VERSION, **state}, partial)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint to the CPU without unpickling code; None where there is none.

    Raises:
        InputError: when the file is no checkpoint of this version.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        raise InputError(f"{path}: not a checkpoint; give --overwrite to train from the start") from None
    if state.get("format_version") != FORMAT_VERSION:
        raise InputError(f"{path}: a checkpoint of another version; give --overwrite to train from the start")
    return state


def refuse_changed(before: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on with settings other than those the run began with.

    Raises:
        InputError: naming the first key that differs, with both values.
    """
    old, new = flat(before), flat(now)
    for key in [*old, *(key for key in new if key not in old)]:
        if old.get(key) != new.get(key):
            raise InputError(
                f"{path}: this run began with {key} = {old.get(key)}, not {new.get(key)}; "
                "give that value to go on, another output, or --overwrite to start again"
            )


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``{"outer.inner": value}``."""
    pairs: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            pairs.update(flat(value, f"{prefix}{key}."))
        else:
            pairs[f"{prefix}{key}"] = value
    return pairs
