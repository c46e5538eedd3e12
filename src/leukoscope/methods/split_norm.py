from typing import cast

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from leukoscope.common.errors import InputError


class SplitBatchNorm(nn.BatchNorm2d):
    """Batch norm over groups of consecutive cells, each with statistics of its own, as if on several devices.

    Batch norm over the whole batch lets a network find a query's key by their shared statistics (MoCo, He et al.
    2020, section 3.3). This is lightly's ``SplitBatchNorm`` for any memory layout: that one reshapes the batch into
    channels, which ``channels_last`` forbids. Running statistics are kept a group; evaluation takes their mean.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, groups: int) -> None:
        super().__init__(norm.num_features, eps=norm.eps, momentum=norm.momentum)
        self.groups = groups
        self.load_state_dict(norm.state_dict())
        self.running_mean = self.running_mean.repeat(groups, 1)  # (groups, C)
        self.running_var = self.running_var.repeat(groups, 1)
        # timm's fused norm carries its activation; its forward is this one's, then these.
        fused = isinstance(norm, BatchNormAct2d)
        self.drop = cast(nn.Module, norm.drop) if fused else nn.Identity()
        self.act = cast(nn.Module, norm.act) if fused else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` ``(B, C, H, W)`` or ``(B, C)``; B is a multiple of the groups while training."""
        if self.training:
            groups = zip(x.chunk(self.groups), self.running_mean, self.running_var, strict=True)
            out = torch.cat([self._normalise(*group) for group in groups])
        else:
            out = self._normalise(x, self.running_mean.mean(0), self.running_var.mean(0))
        return cast(Tensor, self.act(self.drop(out)))

    def _normalise(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        momentum = 0.0 if self.momentum is None else self.momentum
        return F.batch_norm(x, mean, var, self.weight, self.bias, self.training, momentum, self.eps)


def split_batch_norm(network: nn.Module, groups: int) -> nn.Module:
    """Replace every batch norm inside ``network`` by one over ``groups`` groups; returns ``network``."""
    if groups == 1:
        return network
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and not isinstance(child, SplitBatchNorm):
                setattr(parent, name, SplitBatchNorm(child, groups))
    return network


def joined_state(network: nn.Module) -> dict[str, Tensor]:
    """The state of ``network`` as its plain twin takes it: running statistics are the groups' mean."""
    state = dict(network.state_dict())
    for name, module in network.named_modules():
        if isinstance(module, SplitBatchNorm):
            for key in ("running_mean", "running_var"):
                state[f"{name}.{key}"] = state[f"{name}.{key}"].mean(0)
    return state


def check_groups(cells: int, groups: int) -> None:
    """Refuse a batch of ``cells`` on one device that does not split into ``groups`` of two cells or more.

    Raises:
        InputError: naming the batch and the groups.
    """
    if cells % groups or cells < 2 * groups:
        raise InputError(
            f"norm_groups {groups}: a batch of {cells} cells on one device does not split into {groups} equal groups "
            f"of two or more; give a batch that is a multiple of {groups}, or fewer groups"
        )
