from collections.abc import Mapping
from typing import Any

from leukoscope.common.errors import InputError
from leukoscope.probes.fixed_penalty import FixedPenaltyProbe
from leukoscope.probes.head import Probe
from leukoscope.probes.knn import NearestProbe
from leukoscope.probes.linear import LinearProbe
from leukoscope.probes.mlp import MLPProbe
from leukoscope.probes.sgd import StepwiseProbe

HEADS: dict[str, LinearProbe | FixedPenaltyProbe | StepwiseProbe | MLPProbe | NearestProbe] = {
    "linear": LinearProbe(),
    "linear-sgd": StepwiseProbe(),
    "linear-dinobloom-text": FixedPenaltyProbe(rule="text"),
    "linear-dinobloom-code": FixedPenaltyProbe(rule="code"),
    "mlp": MLPProbe(),
    "knn": NearestProbe(),
    "knn-1": NearestProbe(k=(1,), whiten=(0,)),
    "knn-5": NearestProbe(k=(5,), whiten=(0,)),
    "knn-20": NearestProbe(k=(20,), whiten=(0,)),
    "knn-1-euclidean": NearestProbe(k=(1,), whiten=(0,), metric="euclidean"),
    "knn-20-euclidean": NearestProbe(k=(20,), whiten=(0,), metric="euclidean"),
}


def head_of(name: str, values: Mapping[str, Any]) -> Probe:
    """The head called ``name`` with ``values`` laid over its defaults.

    Raises:
        InputError: when there is no such head, or it has no such setting.
    """
    if name not in HEADS:
        raise InputError(f"head {name}: no such head; choose from {', '.join(HEADS)}")
    default = HEADS[name]
    return type(default).parse({**default.model_dump(), **values}, where=f"head {name}")
