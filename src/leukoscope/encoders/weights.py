import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from leukoscope.common.errors import InputError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, or from a ``.pth`` / ``.pt`` of tensors only (nothing is unpickled).

    A checkpoint that wraps its weights as ``state_dict`` or ``model`` is unwrapped, and the prefix ``module.`` of
    data-parallel training is dropped.

    Raises:
        InputError: when the file is missing, or is no such file.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights")
    try:
        data = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not readable as weights ({reason}); give .safetensors, or .pth of tensors") from None
    for key in ("state_dict", "model"):
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
    if not isinstance(data, dict) or not data or not all(isinstance(value, Tensor) for value in data.values()):
        raise InputError(f"{path}: holds no state dict (names to tensors)")
    return {key.removeprefix("module."): value for key, value in data.items()}
