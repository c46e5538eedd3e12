from collections.abc import Mapping
from typing import Any, NamedTuple

from leukoscope.bags.abmil import ABMIL, ABMILSettings
from leukoscope.bags.baselines import BASELINES
from leukoscope.bags.class_attention import ClassAttention, ClassAttentionSettings, MapAttention
from leukoscope.bags.model import BagModel
from leukoscope.bags.pooled import Pooled, PooledSettings
from leukoscope.bags.torchmil import PREFIX, TorchMIL, TorchMILSettings, torchmil_class
from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings


class Entry(NamedTuple):
    """A model, and the settings that it has under its name."""

    model: type[BagModel]
    settings: Settings


MODELS: dict[str, Entry] = {
    "class-attention": Entry(ClassAttention, ClassAttentionSettings()),
    "map-attention": Entry(MapAttention, ClassAttentionSettings()),
    "abmil": Entry(ABMIL, ABMILSettings()),
    "abmil-dinobloom": Entry(ABMIL, ABMILSettings(hidden=64)),
    "mean": Entry(Pooled, PooledSettings(pool="mean")),
    "max": Entry(Pooled, PooledSettings(pool="max")),
}


def model_of(name: str, values: Mapping[str, Any]) -> Entry:
    """The model called ``name`` with ``values`` laid over its settings; ``torchmil:NAME`` is one of torchmil.

    Raises:
        InputError: when there is no such model, or it has no such setting.
    """
    if name.startswith(PREFIX):
        settings = TorchMILSettings(name=name.removeprefix(PREFIX), options=dict(values))
        torchmil_class(settings.name)
        return Entry(TorchMIL, settings)
    if name not in MODELS:
        raise InputError(
            f"--head {name}: no such model of bags; choose from {', '.join([*MODELS, *BASELINES])}, torchmil:NAME"
        )
    model, default = MODELS[name]
    return Entry(model, type(default).parse({**default.model_dump(), **values}, where=f"head {name}"))
