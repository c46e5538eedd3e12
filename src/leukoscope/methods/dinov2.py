from collections.abc import Mapping
from typing import Literal

import torch
from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
from lightly.loss.swav_loss import sinkhorn
from lightly.models.modules import MaskedVisionTransformerTIMM
from lightly.models.modules.heads import DINOv2ProjectionHead
from lightly.models.utils import deactivate_requires_grad, random_block_mask
from pydantic import Field
from torch import Tensor, nn

from leukoscope.common.errors import InputError
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.methods.crops import run_crops, split_crops
from leukoscope.methods.gather import processes
from leukoscope.methods.teacher import TeacherSettings
from leukoscope.methods.twin import follow, momentum_twin
from leukoscope.scores.spectrum import spread
from leukoscope.training.method import Method, Progress

_SMALLEST_BLOCK = 4  # patches that are masked together at least, where an image has enough of them


class DINOv2Settings(TeacherSettings):
    """DINOv2. The defaults are those of its authors' configuration."""

    momentum: float = Field(default=0.992, ge=0, le=1)
    centring: Literal["mean", "sinkhorn"] = "mean"
    """How the teacher's outputs are kept from being constant: less their moving mean, or shared out by Sinkhorn-Knopp,
    as the authors have it for ViT-L and ViT-g. Over several processes, patches of one that masks fewer weigh more."""
    separate_heads: bool = False
    """A head of its own for patches, as the authors have it for ViT-L and ViT-g."""
    class_weight: float = Field(default=1.0, ge=0)
    patch_weight: float = Field(default=1.0, ge=0)
    koleo_weight: float = Field(default=0.1, ge=0)
    masked_images: float = Field(default=0.5, ge=0, le=1)
    """Share of the global views in which patches are masked."""
    masked_patches: tuple[float, float] = (0.1, 0.5)
    """Share of the patches of such a view, from the least to the greatest."""


class DINOv2(Method):
    r"""DINOv2 (Oquab et al. 2023, arXiv:2304.07193, section 4), as dinobloom takes it: without local crops.

    The student's class token is to give what the teacher's gives for another global view (DINO), its tokens of masked
    patches what the teacher's, unmasked, give at the same place (iBOT), and the class tokens of a batch are spread
    (KoLeo): :math:`L = L_\mathrm{class} + L_\mathrm{patch} + 0.1 L_\mathrm{KoLeo}`. Local views, where the policy makes
    some, see the class loss alone.

    Args:
        backbone: a vision transformer with a class token, ``(B, C, S, S)`` to features ``(B, num_features)``.
        settings: see :class:`DINOv2Settings`.
        cells: the number of cells in the training set.
        seed: seed of the heads' weights and of the masks.

    Raises:
        InputError: when the backbone is no vision transformer with a class token.
    """

    watched = ("class_loss", "patch_loss", "koleo")
    views = (2, None)

    def __init__(self, backbone: nn.Module, settings: DINOv2Settings, *, cells: int, seed: int) -> None:
        super().__init__()
        if getattr(backbone, "cls_token", None) is None or not hasattr(backbone, "patch_embed"):
            raise InputError("dinov2: needs a vision transformer with a class token, such as vit_small_patch14_dinov2")
        self.settings = settings
        self.student = MaskedVisionTransformerTIMM(
            backbone,
            weight_initialization="skip",
            pos_embed_initialization="skip",
        )
        self.teacher = momentum_twin(self.student)
        self.student_heads, self.teacher_heads = self._create_heads(seed), self._create_heads(seed)
        deactivate_requires_grad(self.teacher_heads)
        # With momentum 1 the centre stays at zero: what Sinkhorn-Knopp gives is not centred again.
        momentum = 1.0 if settings.centring == "sinkhorn" else settings.center_momentum
        temperatures = {"student_temp": settings.student_temperature, "center_momentum": momentum}
        self.class_loss = DINOLoss(settings.outputs, **temperatures)
        self.patch_loss = IBOTPatchLoss(settings.outputs, **temperatures)
        self.koleo = KoLeoLoss()

    def loss(self, views: list[Tensor], cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The three terms; see :meth:`Method.loss`."""
        large, small = split_crops(views)
        if len(large) < 2:
            raise InputError("dinov2: a global view is told by another; let the policy make two of the full size")
        images = torch.cat(large)
        mask = self.mask(len(images), images.shape[-1]).to(images.device)  # (B, h, w)
        prefix = self.teacher.vit.num_prefix_tokens
        tokens = torch.cat([mask.new_zeros(len(mask), prefix), mask.flatten(1)], dim=1)
        with torch.no_grad():
            taught = self.teacher.encode(images)
            told_class = self.teacher_heads[0](taught[:, 0]).float()
            told_patches = self.teacher_heads[-1](taught[tokens]).float()
        learned = self.student.encode(images, mask=tokens)
        said_class = list(self.student_heads[0](learned[:, 0]).float().chunk(len(large)))
        if small:
            said_class += [
                self.student_heads[0](each).float() for each in run_crops(lambda x: self.student.encode(x)[:, 0], small)
            ]
        said_patches = self.student_heads[-1](learned[tokens]).float()
        temperature = self.settings.temperature_at(progress)
        if self.settings.centring == "sinkhorn":
            told_class, told_patches = _shared_out(told_class, temperature), _shared_out(told_patches, temperature)
        with torch.autocast(images.device.type, enabled=False):
            class_loss = self.class_loss(list(told_class.chunk(len(large))), said_class, teacher_temp=temperature)
            # Few and small images may end up with no patch masked: nothing to tell, and no centre to move.
            patch_loss = (
                self.patch_loss(told_patches, said_patches, mask, teacher_temp=temperature)
                if len(told_patches)
                else class_loss.new_zeros(())
            )
            koleo = torch.stack([self.koleo(each) for each in learned[:, 0].float().chunk(len(large))]).sum()
        chosen = self.settings
        loss = chosen.class_weight * class_loss + chosen.patch_weight * patch_loss + chosen.koleo_weight * koleo
        numbers = {"class_loss": class_loss.detach(), "patch_loss": patch_loss.detach(), "koleo": koleo.detach()}
        if progress.logged:
            numbers["spread"] = spread(learned[:, 0])
        return loss, numbers

    def before_step(self, progress: Progress) -> None:
        """Hold the heads' last layers for the first epochs."""
        if progress.epoch < self.settings.frozen_epochs:
            for name, parameter in self.student_heads.named_parameters():
                if "last_layer" in name:
                    parameter.grad = None

    def after_step(self, progress: Progress) -> None:
        """Move the teacher towards the student."""
        momentum = self.settings.momentum_at(progress)
        follow(self.student, self.teacher, momentum)
        follow(self.student_heads, self.teacher_heads, momentum)

    def online(self) -> nn.Module:
        """The teacher's transformer, which the authors evaluate."""
        transformer: nn.Module = self.teacher.vit
        return transformer

    def mask(self, images: int, size: int) -> Tensor:
        """Which patches of which images are masked ``(images, h, w)`` bool, in blocks; drawn from the global state."""
        h, w = (
            side // patch for side, patch in zip((size, size), self.teacher.vit.patch_embed.patch_size, strict=True)
        )
        least, most = self.settings.masked_patches
        block = _SMALLEST_BLOCK if least * h * w >= _SMALLEST_BLOCK else 0
        drawn: Tensor = random_block_mask(
            (images, h, w),
            batch_mask_ratio=self.settings.masked_images,
            min_image_mask_ratio=least,
            max_image_mask_ratio=most,
            min_num_masks_per_block=block,
        )
        return drawn

    def _create_heads(self, seed: int) -> nn.ModuleList:
        """The head of class tokens and, last, that of patches, which may be the same."""
        chosen = self.settings
        with seeded_weights(seed):
            return nn.ModuleList(
                DINOv2ProjectionHead(int(self.student.vit.embed_dim), chosen.hidden, chosen.bottleneck, chosen.outputs)
                for _ in range(2 if chosen.separate_heads else 1)
            )


def _shared_out(told: Tensor, temperature: float) -> Tensor:
    """Outputs ``(n, K)`` whose softmax at ``temperature`` uses all outputs equally often over the cells of a batch."""
    codes: Tensor = sinkhorn(told, iterations=3, epsilon=temperature, gather_distributed=processes() > 1)
    # Where a code is zero its logarithm would be infinite.
    return temperature * codes.clamp_min(torch.finfo(codes.dtype).tiny).log()
