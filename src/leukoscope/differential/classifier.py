from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from safetensors.torch import save_file
from torch import Tensor, nn

from leukoscope.common.errors import InputError
from leukoscope.common.files import Mark, read_json, whole_folder, write_json
from leukoscope.common.settings import Settings
from leukoscope.differential.answers import Answers
from leukoscope.differential.calibration import apply_temperature
from leukoscope.differential.novelty import NoveltyLimits, Reference
from leukoscope.differential.quality import QualityLimits
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.readout import Readout
from leukoscope.encoders.weights import fingerprint_of, read_weights
from leukoscope.probes.head import Head
from leukoscope.probes.linear import LinearHead
from leukoscope.probes.mlp import MLPHead

FORMAT_VERSION = 2
MARK = Mark("classifier.json")
HeadName = Literal["linear", "mlp"]
_HEADS: dict[str, Callable[[Mapping[str, Tensor]], Head]] = {
    "linear": LinearHead.from_state,
    "mlp": MLPHead.from_state,
}


class ClassifierInfo(Settings):
    """What ``classifier.json`` holds: whose features the head takes, and what is known of its errors.

    ``encoder_fingerprint`` to ``field_um`` say which cells, through which encoder, it may classify; ``readout``
    how they must be embedded. ``heads`` are those tried, with their calibrated log loss. ``confusion`` counts the
    cross-validated cells by true (row) and predicted class, and ``cross_validated`` holds their scores, before and
    after calibration. ``answers`` is a finer confusion of the same cells, by which counts are corrected.
    ``prevalence`` is each class's share of the training cells. ``folds`` 1 says that a single set of cells was held
    out, as fine-tuning does. ``novelty`` is None where too few cells were held out to tell what is far. ``quality``
    holds the limits learned from the training cells' pixels, None where these were not at hand. ``reliability`` are
    the cells that ``cross_validated`` is of, in bins of the probability of the class they were called: how many, their
    mean probability, and the share called rightly, before and after calibration.
    """

    format_version: int = FORMAT_VERSION
    classes: tuple[str, ...]
    head: HeadName
    heads: dict[str, float] = Field(default_factory=dict)
    chosen: dict[str, float]
    encoder_fingerprint: str
    timm_name: str
    feature_dim: int
    channels: tuple[str, ...]
    bit_depth: int
    field_um: float | None = None
    readout: Readout = Readout()
    pixels_fingerprint: str
    temperature: float
    prevalence: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    answers: Answers
    cross_validated: dict[str, float]
    reliability: dict[str, tuple[tuple[int, float, float], ...]] = Field(default_factory=dict)
    novelty: NoveltyLimits | None = None
    folds: int
    group: str | None = None
    seed: int
    quality: QualityLimits | None = None

    @model_validator(mode="after")
    def _one_entry_a_class(self) -> "ClassifierInfo":
        count = len(self.classes)
        if {len(self.prevalence), len(self.confusion), *map(len, self.confusion)} != {count}:
            raise ValueError(f"prevalence and confusion need one entry for each of the {count} classes")
        if len(self.answers.counts) != count:
            raise ValueError(f"answers need a row for each of the {count} classes")
        return self


@dataclass(frozen=True)
class Classifier:
    """A head that travels with its calibration and confusions: ``classifier.safetensors`` + ``classifier.json``.

    ``reference.safetensors`` are the features that it learned from, against which novelty is measured and with which
    it learns on; a fine-tuned head has none.
    """

    head: Head
    info: ClassifierInfo
    reference: Reference | None = None

    @classmethod
    def load(cls, path: Path | str) -> "Classifier":
        """Load the bundle folder ``path``.

        Raises:
            InputError: when ``path`` is no bundle, of another format version, or its weights do not fit.
        """
        path = Path(path)
        where = path / "classifier.json"
        if not where.is_file():
            raise InputError(
                f"{path}: not a classifier bundle (no classifier.json); make one with 'leukoscope fit FEATURES {path}'"
            )
        data = read_json(where)
        if data.get("format_version") != FORMAT_VERSION:
            raise InputError(
                f"{where}: format {data.get('format_version')}, this version reads {FORMAT_VERSION}; fit it anew"
            )
        info = ClassifierInfo.parse(data, where=str(where))
        weights = path / "classifier.safetensors"
        try:
            head = _HEADS[info.head](read_weights(weights))
            shape = tuple(head.probabilities(torch.zeros(1, info.feature_dim)).shape)
        except (KeyError, RuntimeError) as error:
            raise InputError(f"{weights}: does not hold the {info.head} head of classifier.json ({error})") from None
        if shape != (1, len(info.classes)):
            raise InputError(f"{weights}: a head of {shape[1]} classes, classifier.json names {len(info.classes)}")
        kept = path / "reference.safetensors"
        return cls(head, info, Reference.read(kept) if kept.is_file() else None)

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the bundle folder ``path``, whole or not at all.

        Raises:
            InputError: when ``path`` exists already, unless it is a bundle to be overwritten.
        """
        with whole_folder(path, MARK, overwrite=overwrite) as folder:
            save_file(self.head.state(), folder / "classifier.safetensors")
            if self.reference is not None:
                self.reference.write(folder / "reference.safetensors")
            write_json(folder / "classifier.json", self.info.model_dump(mode="json"))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the head and of what ``classifier.json`` says: one that has learned on is another."""
        return fingerprint_of(self.info.model_dump_json(), self.head.state())

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Calibrated class probabilities ``(n, K)`` float64 of features ``(n, D)``."""
        with torch.inference_mode():
            p = self.head.probabilities(torch.from_numpy(np.ascontiguousarray(x, np.float32)))
        return apply_temperature(p.cpu().numpy(), self.info.temperature)

    def module(self) -> nn.Module:
        """The same as a module, from features ``(n, D)`` to calibrated probabilities ``(n, K)`` float32, for export."""
        return _Calibrated(self.head, self.info.temperature).eval()

    def refuse_other(self, encoder: Encoder) -> None:
        """Refuse an encoder that the classifier was not fitted on.

        Raises:
            InputError: when the fingerprints differ.
        """
        info, found = self.info, encoder.fingerprint
        if found != info.encoder_fingerprint:
            raise InputError(
                f"the classifier was fitted on features of another encoder ({info.timm_name}, "
                f"{info.encoder_fingerprint[:12]}) than this one ({encoder.info.timm_name}, {found[:12]}); fit it anew"
            )


class _Calibrated(nn.Module):
    """As :func:`~leukoscope.differential.calibration.apply_temperature`, in torch and float32."""

    def __init__(self, head: Head, temperature: float) -> None:
        super().__init__()
        self.head, self.temperature = head, temperature

    def forward(self, x: Tensor) -> Tensor:
        p = self.head.probabilities(x)
        logits = p.clamp_min(torch.finfo(p.dtype).tiny).log()
        return torch.softmax(logits / self.temperature, dim=1)
