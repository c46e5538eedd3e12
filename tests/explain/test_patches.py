import numpy as np
import pytest
import torch

from leukoscope.cells.cellset import CellSet
from leukoscope.encoders.bundle import random_encoder
from leukoscope.explain.patches import patch_colours, patch_tokens

RANDOM = np.random.default_rng(0)


def test_a_transformers_tokens_stand_in_their_places(cells: CellSet) -> None:
    encoder = random_encoder("vit_tiny_patch16_224", cells, size=64, seed=0)
    tokens = patch_tokens(encoder, cells, np.array([3, 1, 4]), device="cpu", batch=2)
    assert tokens.shape == (3, 4, 4, 192)
    with torch.no_grad():
        y = encoder.backbone.forward_features(encoder.prepare(torch.from_numpy(cells.read([3, 1, 4]))))
    np.testing.assert_allclose(tokens[2, 1, 3], y[2, 1 + 4 + 3].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape"), [("resnet18", (5, 4, 4, 256)), ("swin_tiny_patch4_window7_224", (5, 7, 7, 192))]
)
def test_others_give_the_last_maps_that_say_where(cells: CellSet, name: str, shape: tuple[int, ...]) -> None:
    encoder = random_encoder(name, cells, size=64 if name == "resnet18" else 56, seed=0)
    tokens = patch_tokens(encoder, cells, np.arange(5), device="cpu")
    assert tokens.shape == shape
    layer = encoder.backbone.get_submodule("layer3" if name == "resnet18" else "layers.1")
    with torch.no_grad():
        kept = []
        hook = layer.register_forward_hook(lambda _module, _input, output: kept.append(output))
        encoder.backbone(encoder.prepare(torch.from_numpy(cells.read(np.arange(5)))))
        hook.remove()
    place = kept[0][4, :, 2, 1] if name == "resnet18" else kept[0][4, 2, 1]
    np.testing.assert_allclose(tokens[4, 2, 1], place.numpy(), atol=1e-5)


@pytest.mark.parametrize("width", [5, 100])
def test_colours_are_the_components_of_all_cells_together(width: int) -> None:
    tokens = RANDOM.normal(size=(3, 4, 5, width)) @ np.diag(np.linspace(3, 0.1, width))
    found = patch_colours(tokens.astype(np.float32), percentiles=(0, 100))
    flat = tokens.reshape(-1, width) - tokens.reshape(-1, width).mean(axis=0)
    _, singular, directions = np.linalg.svd(flat, full_matrices=False)
    np.testing.assert_allclose(found.shares, singular[:3] ** 2 / (singular**2).sum(), rtol=1e-4)
    colours = found.colours.reshape(-1, 3)
    for k in range(3):
        score = flat @ directions[k]
        scaled = (score - score.min()) / np.ptp(score)
        turned = min((scaled, 1 - scaled), key=lambda each: np.abs(each - colours[:, k]).max())
        np.testing.assert_allclose(colours[:, k], turned, atol=1e-3)
    assert found.foreground.all()


def test_the_same_patch_has_the_same_colour_in_every_cell() -> None:
    tokens = RANDOM.normal(size=(2, 4, 4, 8)).astype(np.float32)
    tokens[1, 0, 0] = tokens[0, 3, 3]
    colours = patch_colours(tokens).colours
    np.testing.assert_array_equal(colours[1, 0, 0], colours[0, 3, 3])


@pytest.mark.parametrize("turn", [1, -1])
def test_the_middle_is_higher_than_the_border_whatever_the_sign(turn: int) -> None:
    tokens = 0.01 * RANDOM.normal(size=(2, 6, 6, 4)).astype(np.float32)
    tokens[:, 2:4, 2:4, 0] += turn
    red = patch_colours(tokens).colours[..., 0]
    assert red[:, 2:4, 2:4].min() > 0.9
    assert red[:, 0].max() < 0.1


def test_foreground_is_what_the_first_component_parts_and_has_a_pca_of_its_own() -> None:
    tokens = 0.01 * RANDOM.normal(size=(2, 8, 8, 6)).astype(np.float32)
    tokens[:, 2:6, 2:6, 0] += 5
    tokens[:, 2:4, 2:6, 1] += 1  # a difference within the foreground only
    found = patch_colours(tokens, foreground=True)
    expected = np.zeros((2, 8, 8), bool)
    expected[:, 2:6, 2:6] = True
    np.testing.assert_array_equal(found.foreground, expected)
    assert (found.colours[~expected] == 1).all()
    red = found.colours[..., 0]
    assert abs(red[:, 2:4, 2:6].mean() - red[:, 4:6, 2:6].mean()) > 0.8
    whole = patch_colours(tokens).colours[..., 0]
    assert abs(whole[:, 2:4, 2:6].mean() - whole[:, 4:6, 2:6].mean()) < 0.3


def test_patches_that_are_all_alike_are_grey() -> None:
    found = patch_colours(np.ones((1, 3, 3, 4), np.float32), foreground=True)
    assert (found.colours == 0.5).all()
    assert (found.shares == 0).all()


def test_too_few_patches() -> None:
    with pytest.raises(ValueError, match="n_components=3"):
        patch_colours(np.zeros((1, 1, 2, 4), np.float32))
