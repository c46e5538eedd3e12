from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings
from leukoscope.encoders.timminfo import layers_of


class Readout(Settings):
    """How features are read from a frozen network.

    ``stages`` counts back from the network's end: 1 is the network's own output; 3 lays the pooled maps of the two
    stages before the last in front of it. Early stages keep colour and texture that a last stage, trained briefly on
    few cells, has not learned to carry. Of a transformer they are the class tokens of its last blocks, as DINO's
    authors probe theirs (Caron et al. 2021, arXiv:2104.14294, appendix F).
    """

    flips: bool = False
    """Average over the eight flips and quarter turns, at eight times the cost."""
    stages: int = Field(default=1, ge=1)

    @classmethod
    def of(cls, uns: Mapping[str, Any]) -> "Readout":
        """How features were read, from the ``uns`` that they travel with; those of older versions lack it."""
        return cls(flips=bool(uns.get("flips", False)), stages=int(uns.get("stages", 1)))

    def __call__(self, backbone: nn.Module, x: Tensor) -> Tensor:
        """Features ``(B, D)`` float32 of prepared input ``(B, C, S, S)``.

        Raises:
            InputError: when the network has fewer stages, or shows only its output.
        """
        views = [x]
        if self.flips:
            turned = [torch.rot90(x, turns, (2, 3)) for turns in range(4)]
            views = [*turned, *(view.flip(3) for view in turned)]
        total = sum(self._of(backbone, view).float() for view in views)
        assert isinstance(total, Tensor)
        return total / len(views)

    def _of(self, backbone: nn.Module, x: Tensor) -> Tensor:
        if self.stages == 1:
            y: Tensor = backbone(x)
            return y
        if not hasattr(backbone, "forward_intermediates"):
            raise InputError(f"stages {self.stages}: {type(backbone).__name__} shows its output only; take 1")
        last = len(layers_of(backbone)) - 1
        if self.stages > last + 1:
            raise InputError(f"stages {self.stages}: {type(backbone).__name__} has {last + 1}; take fewer")
        # The last of the stages asked for is the output itself, which the network makes of its final maps. Counted from
        # the start, because where a network was truncated timm still counts what is gone.
        earlier = list(range(last + 1 - self.stages, last))
        tokens = {"return_prefix_tokens": True, "norm": True} if getattr(backbone, "num_prefix_tokens", 0) else {}
        final, stages = backbone.forward_intermediates(x, indices=earlier, **tokens)  # type: ignore[operator]
        pooled = [stage[1][:, 0] if tokens else stage.mean(dim=(2, 3)) for stage in stages]
        return torch.cat([*pooled, backbone.forward_head(final, pre_logits=True)], dim=1)  # type: ignore[operator]
