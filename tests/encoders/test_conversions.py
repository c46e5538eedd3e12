"""Published weights under their own names compute what their own architectures compute.

Names and shapes are those that the code of each project makes: ``get_dino_finetuned_downloaded`` of marrlab/DinoBloom
on DINOv2's ``DinoVisionTransformer``; ``ctran.py`` of Xiyue-Wang/TransPath on timm 0.5.4; ``ViTModel`` of transformers
4. The values are random. The references follow those codes, tensor by tensor, on the names before conversion.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import create_backbone
from leukoscope.encoders.baselines import open_encoder
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.conversions import convert

Shapes = dict[str, tuple[int, ...]]
State = dict[str, Tensor]
IMAGENET_MEAN = (0.485, 0.456, 0.406)


def values(shapes: Shapes) -> State:
    """Random tensors of these shapes, none of them as an untrained network has them; counters are int64."""
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(shape, generator=generator) * (0.1 if len(shape) == 1 else 0.03)
        for name, shape in shapes.items()
    }
    for name in state:
        if name.endswith("running_var") or (".norm" in name and name.endswith("weight")):
            state[name] = state[name].abs() + 0.5
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1)
    return state


def images(count: int, size: int) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def dinobloom(width: int, depth: int, *, swiglu: bool = False) -> Shapes:
    shapes: Shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 257, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8 if swiglu else 4 * width
    mlp = (
        {"w12": (2 * hidden, width), "w3": (width, hidden)}
        if swiglu
        else {"fc1": (hidden, width), "fc2": (width, hidden)}
    )
    linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), **{f"mlp.{k}": v for k, v in mlp.items()}}
    for i in range(depth):
        for name, shape in linear.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{norm}.weight": (width,), f"blocks.{i}.{norm}.bias": (width,)}
        shapes |= {f"blocks.{i}.{scale}.gamma": (width,) for scale in ("ls1", "ls2")}
    heads = {"dino_head.mlp.0.weight": (2048, width), "ibot_head.last_layer.weight_v": (64, 256)}
    return {f"backbone.{name}": shape for name, shape in shapes.items()} | heads


def transformers_vit(width: int, depth: int, tokens: int) -> Shapes:
    shapes: Shapes = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, tokens, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, 16, 16),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    }
    square = [f"attention.attention.{part}" for part in ("query", "key", "value")] + ["attention.output.dense"]
    linear = {**dict.fromkeys(square, (width, width)), "intermediate.dense": (4 * width, width)}
    linear["output.dense"] = (width, 4 * width)
    for i in range(depth):
        for name, shape in linear.items():
            shapes |= {f"encoder.layer.{i}.{name}.weight": shape, f"encoder.layer.{i}.{name}.bias": shape[:1]}
        for norm in ("layernorm_before", "layernorm_after"):
            shapes |= {f"encoder.layer.{i}.{norm}.weight": (width,), f"encoder.layer.{i}.{norm}.bias": (width,)}
    return shapes


def ctranspath() -> Shapes:
    shapes: Shapes = {"patch_embed.proj.6.weight": (96, 24, 1, 1), "patch_embed.proj.6.bias": (96,)}
    for conv, norm, (made, taken) in ((0, 1, (12, 3)), (3, 4, (24, 12))):
        shapes[f"patch_embed.proj.{conv}.weight"] = (made, taken, 3, 3)
        for kind in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"patch_embed.proj.{norm}.{kind}"] = (made,)
        shapes[f"patch_embed.proj.{norm}.num_batches_tracked"] = ()
    norms = {"patch_embed.norm": 96, "norm": 768}
    for i, (depth, heads) in enumerate(zip((2, 2, 6, 2), (3, 6, 12, 24), strict=True)):
        width = 96 * 2**i
        linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        linear |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}"
            norms |= {f"{block}.norm1": width, f"{block}.norm2": width}
            shapes |= {f"{block}.{name}.weight": shape for name, shape in linear.items()}
            shapes |= {f"{block}.{name}.bias": shape[:1] for name, shape in linear.items()}
            shapes[f"{block}.attn.relative_position_bias_table"] = (169, heads)
            shapes[f"{block}.attn.relative_position_index"] = (49, 49)
            if j % 2 and i < 3:
                shapes[f"{block}.attn_mask"] = ((56 // 7 // 2**i) ** 2, 49, 49)
        if i < 3:
            shapes[f"layers.{i}.downsample.reduction.weight"] = (2 * width, 4 * width)
            norms[f"layers.{i}.downsample.norm"] = 4 * width
    for name, width in norms.items():
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return shapes


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax attention of ``(B, T, D)``, the features of a head lying side by side."""
    q, k, v = (y.unflatten(2, (heads, -1)).transpose(1, 2) for y in (q, k, v))
    weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def tokens(state: State, patch: str, cls: str, pos: str, x: Tensor) -> Tensor:
    kernel = state[f"{patch}.weight"]
    patches = F.conv2d(x, kernel, state[f"{patch}.bias"], stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
    return torch.cat([state[cls].expand(len(x), -1, -1), patches], 1) + state[pos]


def transformers_features(state: State, x: Tensor, *, depth: int, heads: int) -> Tensor:
    """The class token of ``ViTModel.last_hidden_state``: ``ViTEmbeddings``, ``ViTLayer`` for each, ``layernorm``."""
    embeddings = ("patch_embeddings.projection", "cls_token", "position_embeddings")
    x = tokens(state, *(f"embeddings.{name}" for name in embeddings), x)
    for i in range(depth):
        layer = f"encoder.layer.{i}"
        y = norm(state, f"{layer}.layernorm_before", x)
        parts = [linear(state, f"{layer}.attention.attention.{part}", y) for part in ("query", "key", "value")]
        x = x + linear(state, f"{layer}.attention.output.dense", attend(*parts, heads))
        y = F.gelu(linear(state, f"{layer}.intermediate.dense", norm(state, f"{layer}.layernorm_after", x)))
        x = x + linear(state, f"{layer}.output.dense", y)
    return norm(state, "layernorm", x)[:, 0]


def dinov2_features(state: State, x: Tensor, *, depth: int, heads: int) -> Tensor:
    """``x_norm_clstoken`` of ``DinoVisionTransformer``: blocks with LayerScale, and an MLP or SwiGLU."""
    x = tokens(state, "backbone.patch_embed.proj", "backbone.cls_token", "backbone.pos_embed", x)
    for i in range(depth):
        block = f"backbone.blocks.{i}"
        q, k, v = linear(state, f"{block}.attn.qkv", norm(state, f"{block}.norm1", x)).chunk(3, -1)
        x = x + state[f"{block}.ls1.gamma"] * linear(state, f"{block}.attn.proj", attend(q, k, v, heads))
        y = norm(state, f"{block}.norm2", x)
        if f"{block}.mlp.w12.weight" in state:
            gate, value = linear(state, f"{block}.mlp.w12", y).chunk(2, -1)
            y = linear(state, f"{block}.mlp.w3", F.silu(gate) * value)
        else:
            y = linear(state, f"{block}.mlp.fc2", F.gelu(linear(state, f"{block}.mlp.fc1", y)))
        x = x + state[f"{block}.ls2.gamma"] * y
    return norm(state, "backbone.norm", x)[:, 0]


class Stem(nn.Module):
    """The forward pass of ``ConvStem`` on the tensors of a checkpoint, channels last as the current Swin takes them."""

    grid_size = (56, 56)

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state

    def forward(self, x: Tensor) -> Tensor:
        state, stem = self.state, "patch_embed.proj"
        for conv, norm_ in ((0, 1), (3, 4)):
            x = F.conv2d(x, state[f"{stem}.{conv}.weight"], stride=2, padding=1)
            kinds = ("running_mean", "running_var", "weight", "bias")
            x = F.batch_norm(x, *(state[f"{stem}.{norm_}.{kind}"] for kind in kinds)).relu()
        x = F.conv2d(x, state[f"{stem}.6.weight"], state[f"{stem}.6.bias"]).permute(0, 2, 3, 1)
        return F.layer_norm(x, (96,), state["patch_embed.norm.weight"], state["patch_embed.norm.bias"])


def ctranspath_features(state: State, x: Tensor) -> Tensor:
    """timm's own Swin-T behind that stem; its patch merging, which closed a stage in 0.5.4, now opens the next."""
    swin: SwinTransformer = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0).eval()
    later = {f"layers.{i}.downsample": f"layers.{i + 1}.downsample" for i in range(3)}
    renamed = {}
    for name, value in state.items():
        first = ".".join(name.split(".")[:3])
        renamed[name.replace(first, later.get(first, first))] = value
    own = swin.state_dict()
    swin.load_state_dict({name: renamed.get(name, value) for name, value in own.items()})
    assert {name for name in own if name not in renamed} == {"patch_embed.proj.weight", "patch_embed.proj.bias"}
    swin.patch_embed = Stem(state)
    features: Tensor = swin(x)
    return features


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., Path]:
    """Write a checkpoint as its authors do, wrapped under a key."""

    def write(state: State, key: str | None = None) -> Path:
        torch.save({key: state} if key else state, tmp_path / "published.pth")
        return tmp_path / "published.pth"

    return write


@torch.inference_mode()
def test_dinobloom(published: Callable[..., Path]) -> None:
    state = values(dinobloom(384, 12))
    backbone = create_backbone(
        "vit_small_patch14_dinov2", channels=3, weights=published(state, "teacher"), seed=0, size=224
    ).eval()
    x = images(2, 224)
    expected = dinov2_features(state, x, depth=12, heads=6)
    torch.testing.assert_close(backbone(x), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.01


@torch.inference_mode()
@pytest.mark.parametrize(
    ("width", "depth", "name"),
    [(384, 12, "vit_small"), (768, 12, "vit_base"), (1024, 24, "vit_large"), (1536, 40, "vit_giant")],
)
def test_every_size_of_dinobloom_fits_its_network(width: int, depth: int, name: str) -> None:
    with torch.device("meta"):
        backbone = create_backbone(f"{name}_patch14_dinov2", channels=3, seed=0, size=224)
        state = {key: torch.empty(shape) for key, shape in dinobloom(width, depth, swiglu=width == 1536).items()}
    tensors, origin = convert(state, backbone)
    assert origin is not None
    assert (origin.name, origin.backbone) == ("dinobloom", f"{name}_patch14_dinov2")
    found = {key: value.shape for key, value in checkpoint_filter_fn(tensors, backbone).items()}
    assert found == {key: value.shape for key, value in backbone.state_dict().items()}


@torch.inference_mode()
def test_the_gated_mlp_of_the_largest_dinobloom() -> None:
    state = values(dinobloom(1536, 1, swiglu=True))
    model = timm.create_model("vit_giant_patch14_dinov2", num_classes=0, img_size=224, depth=1).eval()
    model.load_state_dict(checkpoint_filter_fn(convert(state, model)[0], model))
    x = images(1, 224)
    torch.testing.assert_close(model(x), dinov2_features(state, x, depth=1, heads=24), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_ctranspath(published: Callable[..., Path]) -> None:
    state = values(ctranspath())
    name = "swin_tiny_convstem_patch4_window7_224"
    backbone = create_backbone(name, channels=3, weights=published(state, "model"), seed=0, size=224).eval()
    x = images(1, 224)
    expected = ctranspath_features(state, x)
    torch.testing.assert_close(backbone(x), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.01


@torch.inference_mode()
@pytest.mark.parametrize("prefix", ["", "vit."])
def test_a_vision_transformer_of_transformers(published: Callable[..., Path], prefix: str) -> None:
    state = values(transformers_vit(192, 12, 197))
    heads = {"classifier.weight": torch.zeros(2, 192)} if prefix else {"pooler.dense.weight": torch.zeros(192, 192)}
    weights = published({f"{prefix}{name}": value for name, value in state.items()} | heads)
    backbone = create_backbone("vit_tiny_patch16_224", channels=3, weights=weights, seed=0, size=224).eval()
    x = images(2, 224)
    expected = transformers_features(state, x, depth=12, heads=3)
    torch.testing.assert_close(backbone(x), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.01


def test_phikon_is_told_from_its_like_and_fits_its_network() -> None:
    with torch.device("meta"):
        backbone = create_backbone("vit_base_patch16_224", channels=3, seed=0, size=224)
        state = {key: torch.empty(shape) for key, shape in transformers_vit(768, 12, 197).items()}
        pooled = {**state, "pooler.dense.weight": torch.empty(768, 768)}
    tensors, origin = convert(state, backbone)
    assert origin is not None
    assert origin.name == "phikon"
    assert {key: value.shape for key, value in tensors.items()} == {
        key: value.shape for key, value in backbone.state_dict().items()
    }
    assert convert(pooled, backbone)[1] is None


def test_the_bundle_carries_name_licence_and_normalisation(
    make_set: Callable[..., CellSet], published: Callable[..., Path], tmp_path: Path
) -> None:
    weights = published(values(ctranspath()), "model")
    cells = make_set(channels=3, count=2)
    spec = f"pretrained:swin_tiny_convstem_patch4_window7_224@{weights}"
    encoder = open_encoder(spec, cells, size=64)
    assert (encoder.info.method, encoder.info.mean) == ("ctranspath", IMAGENET_MEAN)
    assert encoder.info.licence == "GPL-3.0, for non-commercial academic purposes"
    assert encoder.info.recipe == {"weights": "published.pth"}
    encoder.save(tmp_path / "encoder")
    pixels = torch.from_numpy(cells.read(slice(0, 2)))
    again = Encoder.load(tmp_path / "encoder")
    assert again.info == encoder.info
    assert torch.equal(again.features(pixels), encoder.features(pixels))


@torch.inference_mode()
def test_grey_cells_are_normalised_as_the_weights_were_and_not_as_timm_would(
    make_set: Callable[..., CellSet], published: Callable[..., Path]
) -> None:
    """timm's ViT-B/16 expects mean 0.5, Phikon ImageNet's; the stem makes up for what differs between the colours."""
    state = values(transformers_vit(768, 12, 197))
    cells = make_set(channels=1, count=1, size=224)
    encoder = open_encoder(f"pretrained:vit_base_patch16_224@{published(state)}", cells, size=224)
    assert encoder.info.mean == pytest.approx((sum(IMAGENET_MEAN) / 3,))
    assert "Owkin" in encoder.info.licence
    grey = torch.from_numpy(cells.read(slice(0, 1))).float() / 255
    std = torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    x = (grey.expand(-1, 3, -1, -1) - torch.tensor(IMAGENET_MEAN)[:, None, None]) / std
    found = encoder.features(torch.from_numpy(cells.read(slice(0, 1))))
    torch.testing.assert_close(found, transformers_features(state, x, depth=12, heads=12), rtol=1e-4, atol=1e-4)


def test_the_backbone_they_belong_to_is_named(published: Callable[..., Path]) -> None:
    weights = published(values(ctranspath()), "model")
    with pytest.raises(InputError, match="look like those of ctranspath: take backbone swin_tiny_convstem") as error:
        create_backbone("swin_tiny_patch4_window7_224", channels=3, weights=weights, seed=0, size=224)
    assert "\n" not in str(error.value)
