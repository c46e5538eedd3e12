from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from safetensors.torch import save_file
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.intensity import Intensity
from leukoscope.common.errors import InputError
from leukoscope.common.files import Mark, read_json, whole_folder, write_json
from leukoscope.common.machine import versions
from leukoscope.common.settings import Settings
from leukoscope.encoders.backbone import create_backbone, feature_width
from leukoscope.encoders.device import autocast
from leukoscope.encoders.maps import as_maps
from leukoscope.encoders.readout import Readout
from leukoscope.encoders.stem import match_stem
from leukoscope.encoders.weights import fingerprint_of, read_weights
from leukoscope.views.preprocess import Preprocess

FORMAT_VERSION = 1
MARK = Mark("encoder.json")
_LIBRARIES = ("leukoscope", "torch", "timm")


class EncoderInfo(Settings):
    """What ``encoder.json`` holds: everything that turns pixels into the features of these weights.

    ``mean`` and ``std`` are per channel, of intensities in [0, 1]. ``intensity``, ``bit_depth`` and ``field_um``
    are those of the training cells; ``pixels_fingerprint`` names them (None where no cells were trained on).
    ``learned_classes`` are those whose labels the method has seen, None where it has seen none. ``truncate_after``
    is the stage of the timm network after which this one ends, None where it is whole.
    """

    format_version: int = FORMAT_VERSION
    timm_name: str
    truncate_after: int | None = None
    channels: int
    channel_names: tuple[str, ...]
    size: int
    intensity: Intensity
    bit_depth: int
    field_um: float | None = None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    feature_dim: int
    method: str
    recipe: dict[str, Any] = Field(default_factory=dict)
    pixels_fingerprint: str | None = None
    learned_classes: tuple[str, ...] | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    licence: str = "unknown"

    @model_validator(mode="after")
    def _one_value_a_channel(self) -> "EncoderInfo":
        lengths = (len(self.channel_names), len(self.mean), len(self.std), len(self.intensity.low))
        if set(lengths) != {self.channels} or min(self.std, default=0) <= 0:
            raise ValueError("channel_names, mean, std and intensity need one value a channel, each std above 0")
        return self

    @classmethod
    def of(
        cls,
        cellset: CellSet,
        backbone: nn.Module,
        *,
        timm_name: str,
        truncate_after: int | None = None,
        size: int,
        method: str,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        recipe: Mapping[str, Any] | None = None,
        pixels_fingerprint: str | None = None,
        learned_classes: tuple[str, ...] | None = None,
        licence: str = "unknown",
    ) -> "EncoderInfo":
        """Describe a ``backbone`` for cells like those of ``cellset``; mean and std are the set's, where not given."""
        info = cellset.info
        # A channel of one single intensity has no spread to divide by.
        spread = tuple(value if value > 0 else 1.0 for value in info.std)
        return cls(
            timm_name=timm_name,
            truncate_after=truncate_after,
            channels=cellset.channels,
            channel_names=info.channels,
            size=size,
            intensity=info.intensity,
            bit_depth=info.bit_depth,
            field_um=info.field_um,
            mean=mean or info.mean,
            std=std or spread,
            feature_dim=feature_width(backbone),
            method=method,
            recipe=dict(recipe or {}),
            pixels_fingerprint=pixels_fingerprint,
            learned_classes=learned_classes,
            versions=versions(_LIBRARIES),
            licence=licence,
        )


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder that travels with its preprocessing: the bundle ``encoder.safetensors`` + ``encoder.json``."""

    backbone: nn.Module
    info: EncoderInfo

    def __post_init__(self) -> None:
        self.backbone.eval().requires_grad_(False)

    @classmethod
    def load(cls, path: Path | str) -> "Encoder":
        """Load the bundle folder ``path`` on the CPU.

        Raises:
            InputError: when ``path`` is no bundle, of another format version, or its weights do not fit.
        """
        path = Path(path)
        if not (path / "encoder.json").is_file():
            raise InputError(
                f"{path}: not an encoder bundle (no encoder.json); 'leukoscope pretrain' leaves one in RUN/encoder"
            )
        data = read_json(path / "encoder.json")
        if data.get("format_version") != FORMAT_VERSION:
            raise InputError(
                f"{path}/encoder.json: format {data.get('format_version')}, this version reads {FORMAT_VERSION}"
            )
        info = EncoderInfo.parse(data, where=f"{path}/encoder.json")
        backbone = create_backbone(
            info.timm_name, channels=info.channels, seed=0, size=info.size, truncate_after=info.truncate_after
        )
        tensors = read_weights(path / "encoder.safetensors")
        match_stem(backbone, tensors)
        _fill(backbone, tensors, path / "encoder.safetensors")
        return cls(backbone, info)

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the bundle folder ``path``, whole or not at all.

        Raises:
            InputError: when ``path`` exists already, unless it is a bundle to be overwritten.
        """
        tensors = {key: value.detach().cpu().contiguous() for key, value in self.backbone.state_dict().items()}
        with whole_folder(path, MARK, overwrite=overwrite) as folder:
            save_file(tensors, folder / "encoder.safetensors")
            write_json(folder / "encoder.json", self.info.model_dump(mode="json"))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights and of what preprocessing adds to them: architecture, size, mean and std."""
        info = self.info
        told = repr((info.timm_name, info.channels, info.size, info.mean, info.std))
        return fingerprint_of(told, self.backbone.state_dict())

    def prepare(
        self, pixels: Tensor, intensity: Intensity | None = None, recolour: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Network input ``(B, C, size, size)`` float32 of pixels ``(B, C, H, W)`` uint8 or uint16, on their device.

        Pixels are scaled by ``intensity``, the rule of the CellSet they are from (the encoder's own if None), because
        it brings other cameras to the same [0, 1]; there ``recolour`` may change them; then they are normalised by the
        encoder's mean and std.
        """
        info = self.info
        preprocess = Preprocess(info.size, intensity or info.intensity, info.mean, info.std).to(pixels.device)
        intensities = preprocess.scale(pixels)
        x = preprocess.normalise(intensities if recolour is None else recolour(intensities))
        return x.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def encode(self, x: Tensor, *, precision: str = "fp32", readout: Readout = Readout()) -> Tensor:
        """Features ``(B, D)`` float32 of prepared input; ``D`` is ``feature_dim`` unless several stages are read."""
        with autocast(x.device, precision):
            return readout(self.backbone, x)

    @torch.inference_mode()
    def maps(self, x: Tensor, *, precision: str = "fp32") -> Tensor:
        """Unpooled maps ``(B, C', h, w)`` float32 of prepared input; a transformer's patch tokens in their places."""
        with autocast(x.device, precision):
            y: Tensor = self.backbone.forward_features(x)  # type: ignore[operator]
        return as_maps(self.backbone, y.float())

    def features(
        self,
        pixels: Tensor,
        *,
        intensity: Intensity | None = None,
        precision: str = "fp32",
        readout: Readout = Readout(),
    ) -> Tensor:
        """Features ``(B, D)`` float32 of pixels ``(B, C, H, W)`` uint8 or uint16, on the device of both."""
        return self.encode(self.prepare(pixels, intensity), precision=precision, readout=readout)

    def to(self, device: torch.device) -> "Encoder":
        """Move the backbone, in the memory layout that convolutions are fastest in; returns the encoder itself."""
        self.backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self


def random_encoder(
    name: str, cellset: CellSet, size: int | None = None, seed: int = 0, *, truncate_after: int | None = None
) -> Encoder:
    """The baseline of random weights: backbone ``name`` for cells like those of ``cellset`` (at their size if None)."""
    size = size or max(cellset.info.height, cellset.info.width)
    backbone = create_backbone(name, channels=cellset.channels, seed=seed, size=size, truncate_after=truncate_after)
    info = EncoderInfo.of(
        cellset,
        backbone,
        timm_name=name,
        truncate_after=truncate_after,
        size=size,
        method="random",
        recipe={"seed": seed},
        licence="none needed",
    )
    return Encoder(backbone, info)


def _fill(backbone: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    own = backbone.state_dict()
    missing = sorted(own.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - own.keys())
    if missing:
        raise InputError(f"{path}: {len(missing)} tensors are missing, first {missing[0]}; the bundle is not whole")
    if unknown:
        raise InputError(f"{path}: {len(unknown)} tensors are unknown, first {unknown[0]}; is it of another backbone?")
    for key, value in tensors.items():
        if value.shape != own[key].shape:
            raise InputError(
                f"{path}: tensor {key} is {tuple(value.shape)}, encoder.json asks for {tuple(own[key].shape)}"
            )
    backbone.load_state_dict(tensors)
