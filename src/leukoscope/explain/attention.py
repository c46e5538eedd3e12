import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import Encoder
from leukoscope.explain.inputs import prepared


def attention_maps(
    encoder: Encoder, cellset: CellSet, rows: np.ndarray, *, device: str = "auto", batch: int = 32
) -> np.ndarray:
    """What the class token of the last block attends to, by head: float32 ``(n, heads, h, w)`` over the patches.

    As in figure 1 of DINO (Caron et al. 2021, arXiv:2104.14294). The values are shares: over the patches and the few
    other tokens (class, registers) they sum to 1, so over the patches to at most 1.

    Args:
        encoder: a frozen transformer with a class token.
        cellset: the cells.
        rows: which cells ``(n,)``, as row numbers of ``cellset``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        batch: cells a step.

    Raises:
        InputError: when the network has no class token that attends to patches.
    """
    parts = []
    for _, x in prepared(encoder, cellset, rows, device=device, batch=batch):
        (last,) = attention(encoder, x, blocks=attending_blocks(encoder)[-1:])
        parts.append(_from_class_token(encoder, last))
    return np.concatenate(parts)


def attention_rollout(
    encoder: Encoder, cellset: CellSet, rows: np.ndarray, *, device: str = "auto", batch: int = 32
) -> np.ndarray:
    """Attention of the class token followed through all blocks down to the patches: float32 ``(n, h, w)``.

    Attention rollout (Abnar and Zuidema 2020, arXiv:2005.00928, section 3): heads are averaged, the residual
    connection counts for a half, and the blocks' matrices are multiplied. Arguments as :func:`attention_maps`.

    Raises:
        InputError: when the network has no class token that attends to patches.
    """
    parts = []
    for _, x in prepared(encoder, cellset, rows, device=device, batch=batch):
        followed: Tensor | None = None
        for each in attention(encoder, x, blocks=attending_blocks(encoder)):
            own = torch.eye(each.shape[-1], device=each.device)
            step = (each.mean(dim=1) + own) / 2
            followed = step if followed is None else step @ followed
        assert followed is not None
        parts.append(_from_class_token(encoder, followed[:, None])[:, 0])
    return np.concatenate(parts)


def attending_blocks(encoder: Encoder) -> list[nn.Module]:
    """The blocks of a timm transformer with a class token, first to last.

    Raises:
        InputError: when the network is none.
    """
    backbone = encoder.backbone
    blocks: list[Any] = list(getattr(backbone, "blocks", None) or [])
    attending = [block for block in blocks if hasattr(getattr(block, "attn", None), "attn_drop")]
    if not blocks or len(attending) < len(blocks) or getattr(backbone, "cls_token", None) is None:
        raise _no_attention(encoder)
    return blocks


@torch.inference_mode()
def attention(encoder: Encoder, x: Tensor, *, blocks: Sequence[nn.Module]) -> list[Tensor]:
    """The attention ``(B, heads, T, T)`` of each of ``blocks`` for prepared input ``x``; every row sums to 1."""
    with _recorded(blocks) as seen:
        encoder.backbone(x)
    return [each.float() for each in seen]


@contextmanager
def _recorded(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Attention as the ``blocks`` compute it; their fused kernels, which never hold it, are off until the end."""
    seen: list[Tensor] = []
    with ExitStack() as stack:
        for block in blocks:
            layer: Any = block.attn
            if getattr(layer, "fused_attn", False):
                layer.fused_attn = False
                stack.callback(setattr, layer, "fused_attn", True)
            # Softmax is a function, not a module; the dropout after it is one, and does nothing in evaluation mode.
            hook = layer.attn_drop.register_forward_hook(lambda _module, _input, output: seen.append(output))
            stack.callback(hook.remove)
        yield seen


def _from_class_token(encoder: Encoder, attention: Tensor) -> np.ndarray:
    """The row of the class token ``(B, heads, T, T)``, which timm puts first, as maps of patches."""
    others = int(getattr(encoder.backbone, "num_prefix_tokens", 1))
    patches = attention[:, :, 0, others:]
    side = math.isqrt(patches.shape[-1])
    if side * side != patches.shape[-1]:
        raise _no_attention(encoder)
    maps: np.ndarray = patches.reshape(*patches.shape[:2], side, side).cpu().numpy()
    return maps


def _no_attention(encoder: Encoder) -> InputError:
    return InputError(
        f"{encoder.info.timm_name}: no class token that attends to patches; attention maps need a ViT with one"
    )
