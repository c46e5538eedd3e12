import json
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from timm.models import save_for_hf
from torch import nn

from leukoscope.common.errors import CheckFailed
from leukoscope.common.files import Mark, whole_folder
from leukoscope.encoders.backbone import create_backbone
from leukoscope.encoders.bundle import Encoder, EncoderInfo
from leukoscope.encoders.stem import stem_name, with_ones_channel
from leukoscope.encoders.timminfo import config_of, layers_of

MARK = Mark("README.md", "---\nlibrary_name: timm\n")
TOLERANCE = 1e-3
"""How far a feature may be from the encoder's, in units of the spread of the features between images."""
_OWN = "swin_tiny_convstem_patch4_window7_224"


def export_timm(encoder: Encoder, out: Path, *, overwrite: bool = False) -> float:
    """Write an encoder as a checkpoint folder of timm: ``model.safetensors``, ``config.json`` and a ``README.md``.

    The folder can be uploaded to the Hugging Face hub as it is. Its model takes normalised images; what is folded into
    the encoder's stem becomes one more channel, which must be 1 everywhere. The model card says how it is loaded, what
    it was trained on and under which licence.

    Returns:
        The largest difference of a feature, in units of the spread between images, of the folder loaded by timm.

    Raises:
        InputError: when ``out`` exists already, unless it is such a folder to be overwritten.
        CheckFailed: when timm makes something else of the folder; it is not kept.
    """
    info = encoder.info
    tensors = {key: value.detach().cpu().contiguous() for key, value in encoder.backbone.state_dict().items()}
    plain = create_backbone(
        info.timm_name, channels=info.channels, seed=0, size=info.size, truncate_after=info.truncate_after
    )
    name = stem_name(plain)
    changed = with_ones_channel(tensors, name, biased=f"{name}.bias" in plain.state_dict())
    if changed is not None:
        plain = create_backbone(
            info.timm_name, channels=info.channels + 1, seed=0, size=info.size, truncate_after=info.truncate_after
        )
    plain.load_state_dict(tensors if changed is None else changed)
    ones = changed is not None
    with whole_folder(out, MARK, overwrite=overwrite) as folder:
        config_of(plain).update(tag=info.method, license=info.licence)
        for of_timms_weights in ("origin_url", "paper_ids", "paper_name", "description"):
            config_of(plain).pop(of_timms_weights, None)
        save_for_hf(plain, folder, safe_serialization=True, data_config=_data_config(info, ones))
        (folder / "README.md").write_text(_card(encoder, plain, out.name, ones), encoding="utf-8")
        difference = _difference(encoder, folder, plain, ones)
        if difference > TOLERANCE:
            raise CheckFailed(
                f"{out}: timm makes other features of it ({difference:.2g} of their spread, {TOLERANCE:g} is allowed); "
                "nothing was written"
            )
    return difference


def _data_config(info: EncoderInfo, ones: bool) -> dict[str, object]:
    extra = 1 if ones else 0
    return {
        "input_size": (info.channels + extra, info.size, info.size),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": (*info.mean, *([0.0] * extra)),
        "std": (*info.std, *([1.0] * extra)),
    }


def _loading(info: EncoderInfo, plain: nn.Module, folder: str, ones: bool) -> str:
    """The lines of Python that load the folder into ``model``."""
    lines = ["import timm"]
    if info.timm_name.startswith(_OWN):
        lines.append("import leukoscope.encoders.convstem  # registers the network")
    if info.truncate_after is None:
        lines.append(f'model = timm.create_model("local-dir:{folder}", pretrained=True).eval()')
        return "\n".join(lines)
    size = f", img_size={info.size}" if hasattr(plain, "set_input_size") else ""
    lines += [
        "from safetensors.torch import load_file",
        f'model = timm.create_model("{info.timm_name}", num_classes=0, in_chans={info.channels + ones}{size}).eval()',
        f"model.prune_intermediate_layers([{len(layers_of(plain)) - 1}])",
        'model.reset_classifier(0, "avg")',
        f'model.load_state_dict(load_file("{folder}/model.safetensors"))',
    ]
    return "\n".join(lines)


def _difference(encoder: Encoder, folder: Path, plain: nn.Module, ones: bool) -> float:
    info = encoder.info
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, info.channels, info.size, info.size, generator=generator)
    if info.truncate_after is None:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    else:
        model = plain
        model.load_state_dict(load_file(folder / "model.safetensors"))
    with torch.inference_mode():
        wanted = encoder.encode(x)
        found = model.eval()(torch.cat([x, torch.ones_like(x[:, :1])], dim=1) if ones else x)
    spread = float((wanted - wanted.mean(dim=0)).square().mean().sqrt()) or 1.0
    return float((found - wanted).abs().max()) / spread


def _card(encoder: Encoder, plain: nn.Module, folder: str, ones: bool) -> str:
    info = encoder.info
    trained_on = f"cells with the fingerprint {info.pixels_fingerprint}" if info.pixels_fingerprint else "no cells"
    learned = "" if info.learned_classes is None else f"- labels seen in training: {', '.join(info.learned_classes)}\n"
    whole = "" if info.truncate_after is None else f", ending after its stage {info.truncate_after}"
    extra = "\nx = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)  # its stem takes a channel of ones" if ones else ""
    return f"""{MARK.begins}license: other
license_name: {json.dumps(info.licence)}
tags: [timm, image-feature-extraction]
---

# {folder}

An encoder of single-cell images, exported by Leukoscope.

- network: timm's `{info.timm_name}`{whole}; {info.feature_dim} features
- method: {info.method}
- trained on {trained_on}
{learned}- channels: {", ".join(info.channel_names)}; images of {info.size} x {info.size} pixels
- intensities: {info.intensity.rule}, from {list(info.intensity.low)} to {list(info.intensity.high)}
- mean {list(info.mean)} and std {list(info.std)}, one a channel, of intensities in [0, 1]
- licence: {info.licence}
- fingerprint of the encoder: {encoder.fingerprint}
- made with {", ".join(f"{library} {version}" for library, version in info.versions.items())}

`pixels`, `(B, {info.channels}, {info.size}, {info.size})` float32 as acquired, resized with antialiasing (bilinear):

```python
import torch
{_loading(info, plain, folder, ones)}
low, high, mean, std = (
    torch.tensor(each)[:, None, None]
    for each in ({list(info.intensity.low)}, {list(info.intensity.high)}, {list(info.mean)}, {list(info.std)})
)
x = (((pixels - low) / (high - low)).clamp(0, 1) - mean) / std{extra}
features = model(x)
```
"""
