from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import PatchEmbed
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.swin_transformer import SwinTransformer, checkpoint_filter_fn
from torch import nn


class ConvStem(PatchEmbed):  # type: ignore[misc]
    """The stem of CTransPath: patches of 4x4 pixels are embedded by two strided convolutions and one of 1x1.

    Wang et al. 2022, Medical Image Analysis 81:102559, as their code has it (``ctran.py`` of Xiyue-Wang/TransPath);
    the names of its tensors are theirs: ``proj.0``, ``proj.1``, ``proj.3``, ``proj.4``, ``proj.6`` and ``norm``.
    """

    def __init__(self, *, in_chans: int = 3, embed_dim: int = 96, **options: Any) -> None:
        super().__init__(in_chans=in_chans, embed_dim=embed_dim, **options)
        if self.patch_size != (4, 4) or embed_dim % 8:
            raise ValueError(f"patches of {self.patch_size} and {embed_dim} dimensions: it makes 4x4, a multiple of 8")
        eighth, quarter = embed_dim // 8, embed_dim // 4
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, eighth, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(eighth),
            nn.ReLU(inplace=True),
            nn.Conv2d(eighth, quarter, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(quarter),
            nn.ReLU(inplace=True),
            nn.Conv2d(quarter, embed_dim, 1),
        )


default_cfgs = generate_default_cfgs(
    {
        "swin_tiny_convstem_patch4_window7_224.untrained": {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (7, 7),
            "fixed_input_size": True,
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "patch_embed.proj.0",
            "classifier": "head.fc",
        }
    }
)


@register_model  # type: ignore[untyped-decorator]
def swin_tiny_convstem_patch4_window7_224(pretrained: bool = False, **options: Any) -> SwinTransformer:
    """The network of CTransPath: Swin-T with a convolutional stem, under timm's rules for names and options."""
    shape = {"patch_size": 4, "window_size": 7, "embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)}
    return build_model_with_cfg(
        SwinTransformer,
        "swin_tiny_convstem_patch4_window7_224",
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"flatten_sequential": True, "out_indices": (0, 1, 2, 3)},
        embed_layer=ConvStem,
        **shape,
        **options,
    )
