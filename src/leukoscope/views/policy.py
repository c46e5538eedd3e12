import difflib
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, Field

from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings, read_yaml


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"a range goes from low to high, but {value[0]} is above {value[1]}")
    return value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("the width of a window is odd, so that it has a centre")
    return value


Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
Shares = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]], AfterValidator(_ordered)
]
Width = Annotated[int, Field(ge=3, le=31), AfterValidator(_odd)]


class Operation(Settings):
    """An operation of a policy: ``p`` is the probability that a cell of a view undergoes it."""

    p: Probability = 1.0


class Rotation(Operation):
    """Turn by any angle, uniform within ``degrees`` to either side."""

    degrees: Annotated[float, Field(ge=0, le=180)] = 180.0


class Flip(Settings):
    """Probabilities of the moves that keep the pixel grid; ``quarter_turn`` draws one of 0, 90, 180, 270 degrees."""

    horizontal: Probability = 0.0
    vertical: Probability = 0.0
    transpose: Probability = 0.0
    quarter_turn: Probability = 0.0


class Shift(Operation):
    """Move along each axis, uniform within ``share`` of the image's side to either side."""

    share: Annotated[float, Field(ge=0, le=1)]


class Zoom(Operation):
    """Magnify: ``field`` is the share of the image's side that the view shows.

    0.5 shows the middle half of each side, twice as large; 1.1 shows the whole cell smaller, with the image reflected
    at its edges around it. Uniform in the range.
    """

    field: Range


class Crop(Operation):
    """Scale and crop, as in torchvision's ``RandomResizedCrop``.

    ``area`` is the share of the image's area that the window holds (uniform), ``aspect`` its width over its height
    (log-uniform); the window lies inside the image, anywhere.
    """

    area: Shares
    aspect: Range = (3 / 4, 4 / 3)


class Morphology(Operation):
    """Grey-level erosion or dilation with a square window of ``width`` pixels of the view, one of those given."""

    width: Annotated[tuple[Width, ...], Field(min_length=1)] = (3,)


class Blur(Operation):
    """Gaussian blur; ``sigma`` in pixels of the view, uniform in the range."""

    sigma: Range


class Factor(Operation):
    """A factor, uniform in the range; 1 changes nothing."""

    factor: Annotated[tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]], AfterValidator(_ordered)]


class Hue(Operation):
    """Turn the hue, uniform within ``turn`` to either side; 0.5 is half the colour circle."""

    turn: Annotated[float, Field(ge=0, le=0.5)]


class Solarise(Operation):
    """Invert intensities of at least ``threshold``, as in the views of BYOL, Barlow Twins and DINO."""

    threshold: Probability = 0.5


class Noise(Operation):
    """Add Gaussian noise to every pixel; its standard deviation (of intensities in [0, 1]) is uniform in the range."""

    sd: Range


class Erase(Operation):
    """Cover a rectangle by the view's mean colour.

    ``area`` is its share of the view (uniform), ``aspect`` its width over its height (log-uniform).
    """

    area: Shares
    aspect: Range = (0.3, 3.3)


class View(Settings):
    """One kind of view, made ``count`` times; an operation that is not given is not done.

    The operations are applied in the order in which they stand here; the five moves are one resampling.

    Attributes:
        count: How many such views every cell has.
        share: The view's side as a share of the side that training asks for, as for local crops.
    """

    count: Annotated[int, Field(ge=1)] = 2
    share: Annotated[float, Field(gt=0, le=1)] = 1.0

    rotation: Rotation | None = None
    flip: Flip | None = None
    shift: Shift | None = None
    zoom: Zoom | None = None
    crop: Crop | None = None

    erosion: Morphology | None = None
    dilation: Morphology | None = None
    blur: Blur | None = None

    hue: Hue | None = None
    saturation: Factor | None = None
    grey: Operation | None = None
    contrast: Factor | None = None
    brightness: Factor | None = None
    gain: Factor | None = None
    gamma: Factor | None = None
    solarise: Solarise | None = None

    noise: Noise | None = None
    erase: Erase | None = None

    def side(self, size: int) -> int:
        """The view's side in pixels, where training asks for ``size``."""
        return max(1, round(self.share * size))


class Policy(Settings):
    """What happens to a cell in each of its views.

    Attributes:
        description: What the policy is for and where its numbers come from.
        views: The kinds of views, in the order in which they are returned.
    """

    description: str = ""
    views: Annotated[tuple[View, ...], Field(min_length=1)]

    @property
    def count(self) -> int:
        """How many views every cell has."""
        return sum(view.count for view in self.views)

    @property
    def each(self) -> tuple[View, ...]:
        """The description of every single view, in order."""
        return tuple(view for view in self.views for _ in range(view.count))

    @classmethod
    def load(cls, name_or_path: str | Path) -> "Policy":
        """Read one of the policies that come with Leukoscope, or a YAML file of one's own.

        Raises:
            InputError: when there is no such policy or file, or a key or value of it is wrong.
        """
        path = Path(name_or_path)
        if path.suffix in {".yaml", ".yml"}:
            return cls.parse(read_yaml(path), where=str(path))
        known = policy_names()
        if str(name_or_path) not in known:
            close = difflib.get_close_matches(str(name_or_path), known, n=1)
            meant = f"did you mean {close[0]!r}? " if close else ""
            options = f"{meant}Known: {', '.join(known)}, or a path that ends in .yaml"
            raise InputError(f"policy {str(name_or_path)!r}: no such policy; {options}")
        text = (files(__package__) / "policies" / f"{name_or_path}.yaml").read_text(encoding="utf-8")
        return cls.parse(yaml.safe_load(text), where=f"policy {name_or_path}")


def policy_names() -> list[str]:
    """The names of the policies that come with Leukoscope."""
    entries = (files(__package__) / "policies").iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml"))
