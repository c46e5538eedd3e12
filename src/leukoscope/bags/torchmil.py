"""The models of torchmil (Castro-Macías et al. 2025), each under the name ``torchmil:NAME``, through one adapter."""

import inspect
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from leukoscope.bags.model import BagModel, Judged
from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings

PREFIX = "torchmil:"
# What they give as attention sums to one, or to less; all others give it before the softmax.
_NORMALISED = ("DSMIL", "TransMIL")


class TorchMILSettings(Settings):
    """Which model, and what its constructor takes."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class TorchMIL(BagModel):
    """A model of torchmil for each class against the others: it knows two classes, and has a loss of its own.

    The logits of these models stand side by side; their softmax is what is said of a bag. Each bag is judged by itself,
    without padding, as some of them mix what is padded into the bag.

    Args:
        features: k.
        classes: K.
        settings: see :class:`TorchMILSettings`.

    Raises:
        InputError: when torchmil is not installed, has no such model, or the model takes no such option.
    """

    def __init__(self, features: int, classes: int, settings: TorchMILSettings) -> None:
        super().__init__()
        model = torchmil_class(settings.name)
        try:
            self.of_class = nn.ModuleList(model(in_shape=(features,), **settings.options) for _ in range(classes))
        except TypeError as error:
            raise InputError(f"{PREFIX}{settings.name}: {error}") from None
        self.softmax = settings.name not in _NORMALISED

    def forward(self, x: Tensor, bag: Tensor, n_bags: int) -> Judged:
        """See :meth:`BagModel.forward`; attention has a column for every class."""
        logits, attention = [], []
        for own in _apart(x, bag, n_bags):
            said = [model(own[None], return_att=True) for model in self.of_class]
            logits.append(torch.cat([each.reshape(1) for each, _ in said]))
            looked = torch.stack([weights.reshape(len(own)) for _, weights in said], dim=1)
            attention.append(looked.softmax(dim=0) if self.softmax else looked / looked.sum(dim=0))
        return Judged(torch.stack(logits), torch.cat(attention))

    def loss(self, x: Tensor, bag: Tensor, n_bags: int, y: Tensor) -> Tensor:
        """The losses of the models' own, of all classes and bags, in float32: they were not written for less."""
        total = x.new_zeros(())
        with torch.autocast(x.device.type, enabled=False):
            for own, label in zip(_apart(x, bag, n_bags), y, strict=True):
                for number, model in enumerate(self.of_class):
                    truth = (label == number).float().reshape(1)
                    _, losses = model.compute_loss(truth, own[None])  # type: ignore[operator]
                    total = total + sum(losses.values())
        return total


def _apart(x: Tensor, bag: Tensor, n_bags: int) -> list[Tensor]:
    """The cells of each bag."""
    return [x[bag == number] for number in range(n_bags)]


def torchmil_class(name: str) -> Any:
    """The class of the model ``name``.

    Raises:
        InputError: when torchmil is not installed, or has no such model that needs nothing but the cells of a bag.
    """
    try:
        from torchmil import models
    except ImportError:
        raise InputError(f"{PREFIX}{name}: torchmil is not installed; pip install torchmil") from None
    known = [each for each in dir(models) if _fits(getattr(models, each))]
    if name not in known:
        raise InputError(f"{PREFIX}{name}: torchmil has no such model of bags; choose from {', '.join(known)}")
    return getattr(models, name)


def _fits(model: Any) -> bool:
    """Whether a model needs nothing but the cells of a bag, and tells its attention."""
    if not isinstance(model, type) or not issubclass(model, nn.Module):
        return False
    takes, builds = _parameters(model.forward), _parameters(model.__init__)
    known = "return_att" in takes and "in_shape" in builds and hasattr(model, "compute_loss")
    loss = _parameters(getattr(model, "compute_loss", None)) if known else {}
    return known and not _asked(takes, "X") and not _asked(builds, "in_shape") and not _asked(loss, "X", "Y")


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    return {name: each for name, each in inspect.signature(function).parameters.items() if name != "self"}


def _asked(parameters: dict[str, inspect.Parameter], *given: str) -> list[str]:
    """Those that must be given, less those that are."""
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        name
        for name, each in parameters.items()
        if each.default is each.empty and each.kind in plain and name not in given
    ]
