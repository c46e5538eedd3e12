import torch
from torch import Tensor, nn

from leukoscope.cells.intensity import Intensity
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.folding import fold_norms
from leukoscope.encoders.readout import Readout
from leukoscope.encoders.resizing import resize_exactly
from leukoscope.views.preprocess import Preprocess


class Graph(nn.Module):
    """From pixels as acquired to features, and behind a head to probabilities, in operations that can be exported.

    It computes what :func:`~leukoscope.encoders.embed.embed` does on a CPU, for images of any height and width: scaled
    to [0, 1] by ``intensity``, resized with antialiasing, normalised.

    Args:
        encoder: the frozen encoder.
        intensity: the rule of the cells that the graph is for.
        eight_bit: whether their pixels are uint8; else uint16.
        readout: how features are read from the network.
        head: from features ``(B, D)`` to probabilities ``(B, K)``, float32.
    """

    def __init__(
        self,
        encoder: Encoder,
        intensity: Intensity,
        *,
        eight_bit: bool,
        readout: Readout,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        info = encoder.info
        self.preprocess = Preprocess(info.size, intensity, info.mean, info.std)
        self.backbone = fold_norms(encoder.backbone)
        self.eight_bit, self.readout, self.head = eight_bit, readout, head

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Features ``(B, D)`` float32, and probabilities ``(B, K)`` if there is a head, of ``(B, C, H, W)``."""
        prepare = self.preprocess
        levels = resize_exactly(pixels.to(torch.float32), prepare.size, eight_bit=self.eight_bit)
        x = prepare.normalise(((levels - prepare.low) / prepare.span).clamp(0.0, 1.0))
        features = self.readout(self.backbone, x)
        return (features,) if self.head is None else (features, self.head(features))
