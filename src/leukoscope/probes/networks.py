from collections.abc import Callable
from itertools import pairwise
from typing import Literal, get_args

from torch import nn

from leukoscope.common.errors import InputError
from leukoscope.encoders.seeding import seeded_weights

Model = Literal["mlp", "resnet18", "vit_small"]
MODELS: tuple[Model, ...] = get_args(Model)


def create_network(model: str, *, channels: int, size: int, n_classes: int, seed: int) -> nn.Module:
    """A network of random weights from images ``(B, channels, size, size)`` to logits ``(B, n_classes)``.

    ``resnet18`` is timm's as it is. ``vit_small`` is timm's ViT-Small with the patch of :func:`patch_of`. ``mlp`` takes
    the flattened pixels through 1,024 and 512 hidden units, each with batch norm and ReLU, like the heads on features.

    Raises:
        InputError: when the model is unknown, or cannot take the size.
    """
    # Imported here: an evaluation of frozen features alone need not wait for it.
    import timm

    builders: dict[str, Callable[[], nn.Module]] = {
        "mlp": lambda: _mlp(channels * size * size, n_classes),
        "resnet18": lambda: timm.create_model("resnet18", in_chans=channels, num_classes=n_classes),
        "vit_small": lambda: timm.create_model(
            "vit_small_patch16_224", img_size=size, patch_size=patch_of(size), in_chans=channels, num_classes=n_classes
        ),
    }
    if model not in builders:
        raise InputError(f"supervised network {model!r}: unknown; choose from {', '.join(MODELS)}")
    with seeded_weights(seed):
        return builders[model]()


def patch_of(size: int) -> int:
    """The patch of ViT-Small at ``size`` pixels: the largest of 16, 8 and 4 that gives at least 8 x 8 patches.

    So 16 at 224 px as in the paper (14 x 14 patches), 8 at 64 px, 4 at 32 px.

    Raises:
        InputError: when ``size`` is no multiple of it.
    """
    patch = next((patch for patch in (16, 8, 4) if size >= 8 * patch), 2)
    if size % patch:
        raise InputError(f"supervised network vit_small: size {size} is no multiple of its patch of {patch} pixels")
    return patch


def _mlp(inputs: int, n_classes: int) -> nn.Module:
    widths = (inputs, 1024, 512)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_classes))
