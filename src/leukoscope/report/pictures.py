from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from leukoscope.cells.cellset import CellSet
from leukoscope.report.confusion import draw_confusion
from leukoscope.report.curves import draw_reliability, draw_training
from leukoscope.report.drawing import Picture
from leukoscope.report.evaluation import Evaluation, Pair
from leukoscope.report.few import draw_few_labels
from leukoscope.report.galleries import ClassGallery, Magnification, draw_galleries
from leukoscope.report.heat import draw_heat
from leukoscope.report.maps import draw_map

if TYPE_CHECKING:
    from leukoscope.encoders.bundle import Encoder
    from leukoscope.encoders.features import Features

_MOST_MATRICES = 8
_MOST_MAPS = 3
_STRANGE = "holds none of the evaluated cells, or too few."


@dataclass(frozen=True)
class Pictures:
    """Every picture of the page; where one is missing, ``absent`` says why under the name of its section."""

    confusion: list[Picture]
    reliability: Picture
    few_labels: Picture | None = None
    group_confusion: list[Picture] = field(default_factory=list)
    training: Picture | None = None
    maps: list[Picture] = field(default_factory=list)
    galleries: list[ClassGallery] = field(default_factory=list)
    magnification: Magnification | None = None
    channels: tuple[str, ...] = ()
    heat: list[Picture] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


def draw(
    evaluation: Evaluation,
    leader: Pair,
    *,
    cellset: CellSet | None,
    features: "Mapping[str, Features] | None",
    encoders: "Mapping[str, Encoder] | None",
    history: Mapping[str, Path] | None,
    maps: bool,
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
        absent["galleries"] = "No CellSet was given." if cellset is None else f"The CellSet given {_STRANGE}"
    map_pictures = _maps(evaluation, features or {}, folder, seed) if maps else []
    if not map_pictures:
        strange = f"The features given {_STRANGE}" if maps else "Not asked for."
        absent["maps"] = strange if features else "No features were given."
    heat = _heat(evaluation, encoders or {}, features or {}, cellset)
    if not heat:
        complete = encoders and features and cellset is not None
        absent["gradcam"] = f"The cells given {_STRANGE}" if complete else "Needs encoders, features and a CellSet."
    return Pictures(
        confusion=_confusion(evaluation, folder, "confusion"),
        group_confusion=_confusion(evaluation.of_groups, folder, "group-confusion") if evaluation.of_groups else [],
        reliability=draw_reliability(evaluation, folder),
        few_labels=draw_few_labels(evaluation, folder),
        training=training,
        maps=map_pictures,
        heat=heat,
        galleries=galleries,
        magnification=Magnification.of(cellset) if cellset is not None else None,
        channels=cellset.info.channels if cellset is not None else (),
        absent=absent,
    )


def _confusion(evaluation: Evaluation, folder: Path, name: str) -> list[Picture]:
    """A matrix of every pair as a file; of the page's share the leaders and then the best of the others."""
    shown = list(dict.fromkeys([*evaluation.leaders(), *evaluation.ranked()]))[:_MOST_MATRICES]
    drawn = {pair: draw_confusion(evaluation, pair, folder, name) for pair in evaluation.pairs}
    return [picture for pair, picture in drawn.items() if pair in shown]


def _heat(
    evaluation: Evaluation,
    encoders: "Mapping[str, Encoder]",
    features: "Mapping[str, Features]",
    cellset: CellSet | None,
) -> list[Picture]:
    """Heat of the best encoder that is at hand."""
    name = next((name for name in _best_first(evaluation) if name in encoders and name in features), None)
    if cellset is None or name is None:
        return []
    folder = evaluation.path / "figures"
    drawn = draw_heat(evaluation, name, encoders[name], features[name], cellset, folder)
    return [] if drawn is None else [drawn]


def _maps(evaluation: Evaluation, features: "Mapping[str, Features]", folder: Path, seed: int) -> list[Picture]:
    """Maps of the best encoders; a sweep's many trials would take long and tell little."""
    names = [name for name in _best_first(evaluation) if name in features][:_MOST_MAPS]
    drawn = (draw_map(evaluation, name, features[name], folder, seed=seed) for name in names)
    return [picture for picture in drawn if picture is not None]


def _best_first(evaluation: Evaluation) -> list[str]:
    return list(dict.fromkeys(encoder for encoder, _ in evaluation.ranked()))
