from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch
from torch import nn

from leukoscope.common.errors import InputError

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def pick_device(name: str = "auto") -> torch.device:
    """The device called ``name``: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto`` takes the best there is.

    Raises:
        InputError: when the name is no device, or this machine does not have it.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device {name}: no such device; choose auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here; use --device cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"--device {name}: there is no Apple GPU here; use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"--device {name}: not supported; choose auto, cpu, cuda, cuda:1 or mps")
    return device


def pick_head_device(name: str = "auto") -> torch.device:
    """As :func:`pick_device`, for heads: they sum in float64, which Apple's GPUs lack, so ``mps`` gives the CPU."""
    device = pick_device(name)
    return torch.device("cpu") if device.type == "mps" else device


def pick_dtype(device: torch.device, precision: str = "auto", *, trained: nn.Module | None = None) -> torch.dtype:
    """The dtype that autocast computes in on ``device``.

    ``auto`` is bfloat16 where the hardware multiplies it natively (Ampere and later, AVX512-BF16) and float32
    elsewhere: emulated bfloat16 is slower than float32, and float16 overflows without loss scaling. It is float32,
    too, where a network is to be ``trained`` on a CPU that convolves channel by channel (EfficientNet, ConvNeXt,
    Xception): in bfloat16 its backward pass takes longer than all of float32's (``benchmarks/precision.py``).

    Raises:
        InputError: when the precision is unknown, or asked for on hardware that only emulates it.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision {precision!r}: choose one of {', '.join(get_args(Precision))}")
    if precision == "fp32":
        return torch.float32
    if precision == "fp16":
        if device.type == "cpu":
            raise InputError("precision fp16: the CPU has no fast float16; use fp32, or auto")
        return torch.float16
    slow = precision == "auto" and device.type == "cpu" and trained is not None and _by_channel(trained)
    if _has_bfloat16(device) and not slow:
        return torch.bfloat16
    if precision == "bf16":
        raise InputError(f"precision bf16: {device.type} has no native bfloat16 here; use fp32, or auto")
    return torch.float32


def autocast(
    device: torch.device, precision: str = "auto", *, trained: nn.Module | None = None
) -> AbstractContextManager[object]:
    """Autocast for ``precision`` on ``device``; does nothing for float32. Takes and raises as :func:`pick_dtype`."""
    dtype = pick_dtype(device, precision, trained=trained)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported())
    return False


def _by_channel(network: nn.Module) -> bool:
    """Whether any convolution of ``network`` sees one channel at a time."""
    return any(isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1 for part in network.modules())
