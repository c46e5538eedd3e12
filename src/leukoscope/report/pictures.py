from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from leukoscope.cells.cellset import CellSet
from leukoscope.report.confusion import draw_confusion
from leukoscope.report.curves import draw_reliability, draw_training
from leukoscope.report.drawing import Picture
from leukoscope.report.evaluation import Evaluation, Pair
from leukoscope.report.galleries import ClassGallery, Magnification, draw_galleries

if TYPE_CHECKING:
    from leukoscope.encoders.bundle import Encoder
    from leukoscope.encoders.features import Features


@dataclass(frozen=True)
class Pictures:
    """Every picture of the page; where one is missing, ``absent`` says why under the name of its section."""

    confusion: list[Picture]
    reliability: Picture
    training: Picture | None = None
    maps: list[Picture] = field(default_factory=list)
    galleries: list[ClassGallery] = field(default_factory=list)
    magnification: Magnification | None = None
    channels: tuple[str, ...] = ()
    gradcam: Picture | None = None
    absent: dict[str, str] = field(default_factory=dict)


def draw(
    evaluation: Evaluation,
    leader: Pair,
    *,
    cellset: CellSet | None,
    features: "Mapping[str, Features] | None",
    encoders: "Mapping[str, Encoder] | None",
    history: Mapping[str, Path] | None,
    seed: int,
) -> Pictures:
    """Draw every picture that the inputs allow, into ``figures/`` of the run and for the page."""
    folder = evaluation.path / "figures"
    absent = {}
    training = draw_training(history or {}, folder)
    if training is None:
        absent["training"] = "No history of pre-training was given." if not history else "The history holds no numbers."
    galleries = draw_galleries(evaluation, leader, cellset, folder, seed=seed) if cellset is not None else []
    if not galleries:
        absent["galleries"] = (
            "No CellSet was given." if cellset is None else "The CellSet given holds none of the evaluated cells."
        )
    absent["maps"] = "No features were given."
    absent["gradcam"] = "No encoder was given."
    return Pictures(
        confusion=[draw_confusion(evaluation, pair, folder) for pair in evaluation.pairs],
        reliability=draw_reliability(evaluation, folder),
        training=training,
        galleries=galleries,
        magnification=Magnification.of(cellset) if cellset is not None else None,
        channels=cellset.info.channels if cellset is not None else (),
        absent=absent,
    )
