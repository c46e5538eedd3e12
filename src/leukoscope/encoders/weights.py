import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import load_model_config_from_hf, load_state_dict_from_hf
from torch import Tensor

from leukoscope.common.errors import InputError

HUB = "hf-hub:"
"""How the names of weights on the Hugging Face hub begin."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, or from a ``.pth`` / ``.pt`` of tensors only (nothing is unpickled).

    A checkpoint that wraps its weights as ``state_dict``, ``model`` or ``teacher`` is unwrapped, and the prefix
    ``module.`` of data-parallel training is dropped.

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
    return _state_dict(data, str(path))


def read_hub(source: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a state dict from the Hugging Face hub, or from its cache, and timm's configuration that lies beside it.

    Args:
        source: ``hf-hub:org/name``, as timm spells it, with ``@revision`` where one is wanted.

    Returns:
        The state dict, unwrapped as by :func:`read_weights`, and timm's ``pretrained_cfg``, empty where there is none.

    Raises:
        InputError: when the hub cannot be reached or has no such weights.
    """
    name = source.removeprefix(HUB)
    try:
        data = load_state_dict_from_hf(name)
    except Exception as error:  # the hub's client raises what its transport raises
        raise InputError(
            f"{source}: cannot be fetched ({type(error).__name__}); download model.safetensors or pytorch_model.bin of "
            f"{name} from huggingface.co elsewhere and give the file's path instead"
        ) from None
    try:
        config = dict(load_model_config_from_hf(name)[0])
    except Exception:  # the model is none of timm's, and its configuration has another form
        config = {}
    return _state_dict(data, source), config


def _state_dict(data: Any, where: str) -> dict[str, Tensor]:
    for key in ("state_dict", "model", "teacher"):
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
    if not isinstance(data, dict) or not data or not all(isinstance(value, Tensor) for value in data.values()):
        raise InputError(f"{where}: holds no state dict (names to tensors)")
    return {key.removeprefix("module."): value for key, value in data.items()}


def fingerprint_of(told: str, weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of ``told``, which is what else decides, and of weights by name."""
    digest = hashlib.sha256(told.encode())
    for key, value in sorted(weights.items()):
        array = value.detach().cpu().contiguous().numpy()
        digest.update(repr((key, array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
