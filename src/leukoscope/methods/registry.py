from dataclasses import dataclass

from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings
from leukoscope.methods.barlow_twins import BarlowTwins, BarlowTwinsSettings
from leukoscope.methods.deepcluster_v2 import DeepCluster, DeepClusterSettings
from leukoscope.methods.dino import DINO, DINOSettings
from leukoscope.methods.dinov2 import DINOv2, DINOv2Settings
from leukoscope.methods.lejepa import LeJEPA, LeJEPASettings
from leukoscope.methods.moco import MoCo, MoCoSettings
from leukoscope.methods.simclr import SimCLR, SimCLRSettings
from leukoscope.methods.supcon import SupCon, SupConSettings
from leukoscope.methods.supervised import Supervised, SupervisedSettings
from leukoscope.methods.swav import SwAV, SwAVSettings
from leukoscope.methods.vicreg import VICReg, VICRegSettings
from leukoscope.training.method import Method


@dataclass(frozen=True)
class Entry:
    """A method's class and its settings.

    It is called as ``method(backbone, settings, cells=N, seed=SEED)``, with ``labels`` where it ``uses_labels``.
    """

    method: type[Method]
    settings: type[Settings]


METHODS: dict[str, Entry] = {
    "barlow_twins": Entry(BarlowTwins, BarlowTwinsSettings),
    "deepcluster_v2": Entry(DeepCluster, DeepClusterSettings),
    "dino": Entry(DINO, DINOSettings),
    "dinov2": Entry(DINOv2, DINOv2Settings),
    "lejepa": Entry(LeJEPA, LeJEPASettings),
    "moco": Entry(MoCo, MoCoSettings),
    "simclr": Entry(SimCLR, SimCLRSettings),
    "supcon": Entry(SupCon, SupConSettings),
    "supervised": Entry(Supervised, SupervisedSettings),
    "swav": Entry(SwAV, SwAVSettings),
    "vicreg": Entry(VICReg, VICRegSettings),
}


def entry(name: str) -> Entry:
    """The method called ``name``.

    Raises:
        InputError: when there is none.
    """
    if name not in METHODS:
        raise InputError(f"method {name!r}: unknown; choose one of {', '.join(sorted(METHODS))}")
    return METHODS[name]
