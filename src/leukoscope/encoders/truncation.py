from torch import nn

from leukoscope.common.errors import InputError
from leukoscope.encoders.timminfo import layers_of


def truncate(backbone: nn.Module, stage: int, name: str) -> None:
    """Cut a timm ``backbone`` in place after its N-th ``stage``: its features are then the pooled maps of that stage.

    Stages are counted as those of a ResNet: the maps of the N-th have pixels ``2 ** (N + 1)`` times as wide as the
    input's. What comes after is deleted and costs nothing. DinoBloom (Koch et al. 2024, arXiv:2404.05022) compares
    with a ResNet-50 truncated after its third stage, of 1,024 features.

    Raises:
        InputError: when the network has no stages, or fewer.
    """
    layers = layers_of(backbone)
    reductions = [layer["reduction"] for layer in layers]
    if len(set(reductions)) < 2 or not hasattr(backbone, "prune_intermediate_layers"):
        raise InputError(f"truncate_after {stage}: {name} has no stages of ever coarser maps; leave it out")
    if 2 ** (stage + 1) not in reductions or stage < 1:
        known = [str(n) for n in range(1, 9) if 2 ** (n + 1) in reductions]
        raise InputError(f"truncate_after {stage}: {name} has stages {', '.join(known)}; take one of them")
    last = max(i for i, reduction in enumerate(reductions) if reduction == 2 ** (stage + 1))
    backbone.prune_intermediate_layers([last])  # type: ignore[operator]
    backbone.reset_classifier(0, "avg")  # type: ignore[operator]
    # timm itself leaves it where nothing but a head is cut off, as after the last stage of a VGG.
    backbone.num_features = layers[last]["num_chs"]
    del layers[last + 1 :]
