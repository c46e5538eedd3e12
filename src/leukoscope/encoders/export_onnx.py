import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import CheckFailed, InputError
from leukoscope.common.files import refuse_file, whole_file
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import check_fits
from leukoscope.encoders.graph import Graph
from leukoscope.encoders.readout import Readout

_OPSET = 18
_LARGEST_BYTES = 2**31
_CHECKED = 16

TOLERANCE = 1e-2
"""How far a feature may be from torch's, in units of the spread of the features between cells."""
TOLERANCE_PROBABILITY = 1e-2


class Difference(NamedTuple):
    """The largest differences found between a written file and torch.

    ``features`` in units of their spread between cells (root mean square), ``probabilities`` as they are, None where
    there is no head; ``cells`` is how many images were compared.
    """

    features: float
    probabilities: float | None
    cells: int


def export_onnx(
    encoder: Encoder,
    out: Path,
    *,
    cells: CellSet | None = None,
    readout: Readout = Readout(),
    head: nn.Module | None = None,
    notes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Difference:
    """Write an encoder as one ONNX file that takes pixels as acquired, and check it in ONNX Runtime against torch.

    The input ``pixels`` is uint8 ``(cells, C, height, width)``, or uint16 where the cells have more than 8 bits; all
    but C may differ from call to call. The outputs are ``features`` float32 ``(cells, D)`` and, behind a head,
    ``probabilities`` float32 ``(cells, K)``.

    Args:
        encoder: the frozen encoder.
        out: the ``.onnx`` to write, whole or not at all.
        cells: cells that the file is for; their pixel type and intensity rule go into it in place of the encoder's
            own, and some of them are compared. None compares random pixels.
        readout: how features are read from the network.
        head: from features ``(B, D)`` to probabilities ``(B, K)``, float32.
        notes: further metadata, kept as JSON under ``leukoscope`` beside what is known of the encoder.
        overwrite: replace what ``out`` holds.

    Raises:
        InputError: when the packages for it are missing, the cells do not fit, or the network is too large or cannot
            be exported.
        CheckFailed: when the file computes something else than torch; it is not kept.
    """
    _needed()
    refuse_file(out, overwrite=overwrite)
    info = encoder.info
    if sum(each.numel() * each.element_size() for each in encoder.backbone.state_dict().values()) > _LARGEST_BYTES:
        raise InputError(f"{out}: {info.timm_name} is larger than 2 GiB, more than an ONNX file holds; export a folder")
    if cells is not None:
        check_fits(encoder, cells)
    intensity = info.intensity if cells is None else cells.info.intensity
    bits = info.bit_depth if cells is None else cells.info.bit_depth
    pixels = _random_pixels(encoder, bits) if cells is None else cells.read(slice(0, _CHECKED))
    graph = Graph(encoder, intensity, eight_bit=bits <= 8, readout=readout, head=head).eval()
    program = _program(graph, pixels, encoder)
    told = {**info.model_dump(mode="json"), "encoder_fingerprint": encoder.fingerprint, **readout.model_dump()}
    told |= {"intensity": intensity.model_dump(mode="json"), "bit_depth": bits, **(notes or {})}
    program.model.metadata_props["leukoscope"] = json.dumps(told)
    with torch.inference_mode():
        expected = encoder.features(torch.from_numpy(pixels), intensity=intensity, readout=readout)
        wanted = [expected.numpy(), *([] if head is None else [head(expected).numpy()])]
    with whole_file(out) as partial:
        program.save(partial, external_data=False)
        difference = _compare(partial, pixels, wanted)
        if difference.features > TOLERANCE or (difference.probabilities or 0.0) > TOLERANCE_PROBABILITY:
            raise CheckFailed(
                f"{out}: ONNX Runtime computes something else than torch ({_told(difference)}); nothing was written"
            )
    return difference


def _needed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{error.name} is not installed, and export to ONNX needs it; run pip install 'leukoscope[export]'"
        ) from None


def _program(graph: Graph, pixels: np.ndarray, encoder: Encoder) -> Any:
    """Torch's ONNX program of ``graph``, for any number of images of any height and width."""
    any_size = torch.export.Dim.DYNAMIC
    two = np.concatenate([pixels, pixels])[:2]  # a number of 1 would be taken for fixed
    names = ["features"] if graph.head is None else ["features", "probabilities"]
    try:
        with _quiet():
            return torch.onnx.export(
                graph,
                (torch.from_numpy(two),),
                dynamo=True,
                dynamic_shapes={"pixels": {0: any_size, 2: any_size, 3: any_size}},
                input_names=["pixels"],
                output_names=names,
                opset_version=_OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:160]
        raise InputError(f"{encoder.info.timm_name}: torch cannot export it to ONNX ({reason}...)") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells its developers."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _random_pixels(encoder: Encoder, bits: int) -> np.ndarray:
    """Images of random blocks, of another size than the encoder's, so that they differ and a resize has work to do."""
    random, info = np.random.default_rng(0), encoder.info
    blocks = random.uniform(0, 2**bits - 1, (_CHECKED, info.channels, 7, 5))
    side = -(-info.size // 4)
    pixels = blocks.repeat(side, axis=2).repeat(side, axis=3)
    return pixels.astype(np.uint8 if bits <= 8 else np.uint16)


def _compare(path: Path, pixels: np.ndarray, wanted: list[np.ndarray]) -> Difference:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # One image, then the others: the number of images is not fixed.
    parts = [session.run(None, {"pixels": part}) for part in (pixels[:1], pixels[1:]) if len(part)]
    found = [np.concatenate(each) for each in zip(*parts, strict=True)]
    spread = float(np.sqrt(np.mean((wanted[0] - wanted[0].mean(axis=0)) ** 2))) or 1.0
    largest = [float(np.abs(a - b).max()) for a, b in zip(found, wanted, strict=True)]
    return Difference(largest[0] / spread, largest[1] if len(largest) > 1 else None, len(pixels))


def _told(difference: Difference) -> str:
    text = f"features differ by up to {difference.features:.2g} of their spread, {TOLERANCE:g} is allowed"
    if difference.probabilities is not None:
        text += f"; probabilities by up to {difference.probabilities:.2g}, {TOLERANCE_PROBABILITY:g} is allowed"
    return text
