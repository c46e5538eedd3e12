import copy

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from leukoscope.encoders.backbone import feature_width
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.probes.linear import LinearHead
from leukoscope.probes.stages import Stage
from leukoscope.probes.start import Start


class EncoderWithHead(nn.Module):
    """An encoder under a linear head of random weights: images ``(B, C, S, S)`` to logits ``(B, n_classes)``.

    One dense layer after dropout, as hairy-cells-supcon has it (section 4.2.1 and appendix B.1).
    """

    encoder: nn.Module

    def __init__(self, encoder: nn.Module, n_classes: int, *, dropout: float, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        with seeded_weights(seed):
            self.linear = nn.Linear(feature_width(encoder), n_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, n_classes)``."""
        logits: Tensor = self.linear(self.dropout(self.encoder(x)))
        return logits

    @property
    def head(self) -> LinearHead:
        """The head as heads on features are: on the CPU, without dropout."""
        return LinearHead(self.linear.weight.detach().cpu().clone(), self.linear.bias.detach().cpu().clone())


def start_from(encoder: Encoder, n_classes: int, *, dropout: float, seed: int) -> Start:
    """Training that starts from a copy of ``encoder``, whose size, mean and std it keeps."""

    def build() -> nn.Module:
        return EncoderWithHead(copy.deepcopy(encoder.backbone), n_classes, dropout=dropout, seed=seed)

    info = encoder.info
    return Start(build, info.size, info.mean, info.std)


def set_learning(network: nn.Module, stage: Stage) -> None:
    """Let learn what ``stage`` trains; a frozen encoder is in evaluation mode, so that its batch norms stay, too."""
    network.train().requires_grad_(True)
    if stage.trains == "head":
        assert isinstance(network, EncoderWithHead)
        network.encoder.eval().requires_grad_(False)
    if stage.hold_norms:
        for part in network.modules():
            if isinstance(part, _BatchNorm):
                part.eval()
