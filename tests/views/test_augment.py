import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leukoscope.cells.intensity import Intensity
from leukoscope.common.errors import InputError
from leukoscope.views.augment import Augment
from leukoscope.views.policy import Policy, policy_names

EVERYTHING = {
    "rotation": {"p": 0.7},
    "flip": {"horizontal": 0.5, "vertical": 0.5, "transpose": 0.5, "quarter_turn": 0.5},
    "shift": {"p": 0.6, "share": 0.2},
    "zoom": {"p": 0.6, "field": [0.5, 1.3]},
    "crop": {"p": 0.6, "area": [0.3, 1.0]},
    "erosion": {"p": 0.3, "width": [3, 5]},
    "dilation": {"p": 0.3},
    "blur": {"p": 0.5, "sigma": [0.1, 2.0]},
    "hue": {"p": 0.5, "turn": 0.1},
    "saturation": {"p": 0.5, "factor": [0.5, 1.5]},
    "grey": {"p": 0.2},
    "contrast": {"p": 0.5, "factor": [0.5, 1.5]},
    "brightness": {"p": 0.5, "factor": [0.5, 1.5]},
    "gain": {"p": 0.5, "factor": [0.8, 1.2]},
    "gamma": {"p": 0.5, "factor": [0.7, 1.4]},
    "solarise": {"p": 0.5, "threshold": 0.6},
    "noise": {"p": 0.5, "sd": [0.01, 0.1]},
    "erase": {"p": 0.5, "area": [0.02, 0.2]},
}
COLOUR = ("hue", "saturation", "grey")


def policy(*views: dict[str, object]) -> Policy:
    return Policy.parse({"views": list(views)}, where="test")


def cells(count: int, channels: int = 3, side: int = 40, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    smooth = torch.nn.functional.interpolate(
        torch.rand(count, channels, 9, 9, generator=generator), side, mode="bicubic"
    )
    return (smooth.clamp(0, 1) * (255 if dtype == torch.uint8 else 4095)).to(dtype)


def augment(of: Policy, channels: int = 3, size: int = 24, seed: int = 0, bits: int = 8) -> Augment:
    return Augment(of, size, Intensity.of_bit_depth(bits, channels), seed)


@given(order=st.permutations(range(10)), kept=st.integers(min_value=1, max_value=10))
@settings(max_examples=25, deadline=None)
def test_a_cell_s_views_do_not_depend_on_its_batch(order: list[int], kept: int) -> None:
    make, pixels, numbers = augment(policy(EVERYTHING)), cells(10), torch.arange(50, 60)
    some = torch.tensor(order[:kept])
    whole, part = make(pixels, numbers, 3), make(pixels[some], numbers[some], 3)
    for all_cells, some_cells in zip(whole, part, strict=True):
        torch.testing.assert_close(all_cells[some], some_cells, atol=1e-6, rtol=0)


def test_the_same_seed_epoch_and_cell_give_the_same_bits() -> None:
    first, again = (augment(policy(EVERYTHING))(cells(32), torch.arange(32), 5) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_global_random_state_is_neither_used_nor_changed() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = augment(policy(EVERYTHING))(cells(8), torch.arange(8), 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(first[0], augment(policy(EVERYTHING))(cells(8), torch.arange(8), 0)[0])


def test_views_epochs_seeds_and_cells_differ() -> None:
    pixels = cells(1).expand(4, -1, -1, -1).contiguous()
    make, numbers = augment(policy(EVERYTHING)), torch.arange(4)
    one, other = make(pixels, numbers, 0)
    for different in (other, make(pixels, numbers, 1)[0], augment(policy(EVERYTHING), seed=1)(pixels, numbers, 0)[0]):
        assert ((one - different).abs().flatten(1).amax(dim=1) > 0.01).all()
    assert (one[0] - one[1]).abs().max() > 0.01


@pytest.mark.parametrize(
    "operation", [key for key in EVERYTHING if key not in {"flip", "rotation", "shift", "zoom", "crop"}]
)
def test_an_operation_touches_its_share_of_the_cells_and_leaves_the_others(operation: str) -> None:
    pixels, numbers = cells(300), torch.arange(300)
    settings_of = {**EVERYTHING[operation], "p": 0.3}
    plain = augment(policy({"count": 1}))(pixels, numbers, 0)[0]
    touched = augment(policy({"count": 1, operation: settings_of}))(pixels, numbers, 0)[0]
    changed = (plain - touched).abs().flatten(1).amax(dim=1) > 0
    assert abs(float(changed.float().mean()) - 0.3) < 0.09


def test_an_operation_more_leaves_the_others_draws_as_they_were() -> None:
    pixels, numbers = cells(20), torch.arange(20)
    few = {"rotation": {}, "contrast": {"factor": [0.5, 1.5]}}
    more = {
        **few,
        "zoom": {"p": 0, "field": [0.5, 1]},
        "noise": {"p": 0, "sd": [0.1, 0.2]},
        "blur": {"p": 0, "sigma": [1, 2]},
    }
    without, with_more = (augment(policy(views))(pixels, numbers, 0)[0] for views in (few, more))
    assert torch.equal(without, with_more)


def test_two_views_of_a_kind_are_two_kinds_alike() -> None:
    pixels, numbers = cells(20), torch.arange(20)
    together = augment(policy({"count": 2, **EVERYTHING}))(pixels, numbers, 0)
    apart = augment(policy({"count": 1, **EVERYTHING}, {"count": 1, **EVERYTHING}))(pixels, numbers, 0)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_global_and_local_crops_come_in_the_policy_s_order() -> None:
    crops = policy({"count": 2, "crop": {"area": [0.4, 1]}}, {"count": 4, "share": 0.5, "crop": {"area": [0.05, 0.4]}})
    views = augment(crops)(cells(5), torch.arange(5), 0)
    assert [tuple(view.shape) for view in views] == [(5, 3, 24, 24)] * 2 + [(5, 3, 12, 12)] * 4


@pytest.mark.parametrize(
    ("channels", "dtype", "bits"), [(1, torch.uint8, 8), (2, torch.uint16, 12), (5, torch.uint16, 12)]
)
def test_any_number_of_channels_and_both_depths(channels: int, dtype: torch.dtype, bits: int) -> None:
    uncoloured = policy({key: value for key, value in EVERYTHING.items() if key not in COLOUR})
    views = augment(uncoloured, channels, bits=bits)(cells(9, channels, 50, dtype), torch.arange(9), 2)
    for view in views:
        assert view.shape == (9, channels, 24, 24)
        assert view.dtype == torch.float32
        assert view.min() >= 0
        assert 0.5 < view.max() <= 1


def test_twelve_bits_and_eight_bits_of_the_same_cells_look_alike() -> None:
    eight = augment(Policy.load("ifc"), 1)(cells(9, 1), torch.arange(9), 0)
    twelve = augment(Policy.load("ifc"), 1, bits=12)(cells(9, 1, dtype=torch.uint16), torch.arange(9), 0)
    torch.testing.assert_close(eight[0], twelve[0], atol=2 / 255, rtol=0)


@pytest.mark.parametrize("name", policy_names())
def test_the_named_policies_keep_cells_visible(name: str) -> None:
    pixels = cells(64)
    for view in augment(Policy.load(name))(pixels, torch.arange(64), 0):
        assert torch.isfinite(view).all()
        # Neither black nor flat: about as much contrast as the cells came with.
        assert (view.std(dim=(1, 2, 3)) > 0.3 * (pixels / 255).std(dim=(1, 2, 3))).all()


@pytest.mark.parametrize("key", COLOUR)
def test_colour_of_grey_cells_is_refused(key: str) -> None:
    coloured = policy({}, {key: EVERYTHING[key]})
    with pytest.raises(InputError) as caught:
        augment(coloured, 1)
    assert str(caught.value) == (
        f"policy key views.1.{key}: needs the three channels of RGB, but the cells have 1; take it out of the policy"
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_views() -> None:
    make, pixels, numbers = augment(policy(EVERYTHING)), cells(32), torch.arange(32)
    for here, there in zip(make(pixels, numbers, 1), make(pixels.cuda(), numbers, 1), strict=True):
        # 8-bit pixels are resized in integers on the CPU, so up to two grey levels apart.
        assert (here - there.cpu()).abs().mean() < 2 / 255
