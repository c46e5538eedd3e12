import numpy as np
import pytest
import torch
from torch import Tensor

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import Encoder, random_encoder
from leukoscope.explain.attention import attending_blocks, attention, attention_maps, attention_rollout

ROWS = np.array([3, 1])


@pytest.fixture
def vit(cells: CellSet) -> Encoder:
    return random_encoder("vit_tiny_patch16_224", cells, size=64, seed=0)


def prepared(encoder: Encoder, cells: CellSet) -> Tensor:
    return encoder.prepare(torch.from_numpy(cells.read(ROWS)))


def by_hand(encoder: Encoder, x: Tensor) -> list[Tensor]:
    """softmax(q k' / sqrt(d)) of every block, from what goes into its attention."""
    entered: list[Tensor] = []
    blocks = encoder.backbone.blocks
    hooks = [b.attn.register_forward_hook(lambda _module, inputs, _output: entered.append(inputs[0])) for b in blocks]
    with torch.no_grad():
        encoder.backbone(x)
        found = []
        for block, tokens in zip(blocks, entered, strict=True):
            n, t, width = tokens.shape
            heads = block.attn.num_heads
            q, k, _ = block.attn.qkv(tokens).reshape(n, t, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            found.append((q @ k.transpose(-2, -1) / (width // heads) ** 0.5).softmax(dim=-1))
    for hook in hooks:
        hook.remove()
    return found


def test_the_last_block_against_its_own_queries_and_keys(cells: CellSet, vit: Encoder) -> None:
    maps = attention_maps(vit, cells, ROWS, device="cpu")
    assert maps.shape == (2, 3, 4, 4)
    assert maps.dtype == np.float32
    last = by_hand(vit, prepared(vit, cells))[-1]
    np.testing.assert_allclose(maps, last[:, :, 0, 1:].reshape(2, 3, 4, 4).numpy(), atol=1e-6)


def test_rows_sum_to_one(cells: CellSet, vit: Encoder) -> None:
    found = attention(vit, prepared(vit, cells), blocks=attending_blocks(vit))
    assert len(found) == 12
    for each in found:
        assert each.shape == (2, 3, 17, 17)
        torch.testing.assert_close(each.sum(dim=-1), torch.ones(2, 3, 17))


def test_rollout_against_its_definition(cells: CellSet, vit: Encoder) -> None:
    """Abnar and Zuidema 2020, equation 1: A~(l) = A(l) A~(l-1), with A = (W + I) / 2 averaged over heads."""
    product = torch.eye(17)
    for each in by_hand(vit, prepared(vit, cells)):
        product = (0.5 * each.mean(dim=1) + 0.5 * torch.eye(17)) @ product
    rollout = attention_rollout(vit, cells, ROWS, device="cpu")
    np.testing.assert_allclose(rollout, product[:, 0, 1:].reshape(2, 4, 4).numpy(), atol=1e-6)


def test_registers_are_no_patches(cells: CellSet) -> None:
    encoder = random_encoder("vit_small_patch14_reg4_dinov2", cells, size=42, seed=0)
    maps = attention_maps(encoder, cells, ROWS, device="cpu")
    last = by_hand(encoder, prepared(encoder, cells))[-1]
    np.testing.assert_allclose(maps.reshape(2, 6, 9), last[:, :, 0, 5:].numpy(), atol=1e-6)


def test_the_network_is_left_as_it_was(cells: CellSet, vit: Encoder) -> None:
    x = prepared(vit, cells)
    before = vit.to(torch.device("cpu")).encode(x).clone()
    fused = [block.attn.fused_attn for block in vit.backbone.blocks]
    attention_maps(vit, cells, ROWS, device="cpu")
    with pytest.raises(AssertionError, match="divisible by patch size"):
        attention(vit, x[:, :, :-1], blocks=attending_blocks(vit))
    assert [block.attn.fused_attn for block in vit.backbone.blocks] == fused
    assert not any(block.attn.attn_drop._forward_hooks for block in vit.backbone.blocks)
    torch.testing.assert_close(vit.encode(x), before, rtol=0, atol=0)


def test_the_batch_does_not_matter(cells: CellSet, vit: Encoder) -> None:
    whole, parts = (attention_maps(vit, cells, np.arange(5), device="cpu", batch=batch) for batch in (32, 2))
    np.testing.assert_allclose(whole, parts, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["resnet18", "swin_tiny_patch4_window7_224", "vit_wee_patch16_reg1_gap_256", "xcit_nano_12_p16_224"]
)
def test_networks_without_it_are_named(cells: CellSet, name: str) -> None:
    encoder = random_encoder(name, cells, size=64 if "swin" not in name else 56, seed=0)
    with pytest.raises(InputError, match=f"{name}: no class token that attends to patches") as caught:
        attention_maps(encoder, cells, ROWS, device="cpu")
    assert "\n" not in str(caught.value)
