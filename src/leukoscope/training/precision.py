import inspect

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from leukoscope.common.errors import InputError
from leukoscope.encoders.device import pick_device, pick_dtype
from leukoscope.training.settings import TrainSettings
from leukoscope.training.sharding import shard

_PRECISION = {torch.float32: "32-true", torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed"}


def create_fabric(settings: TrainSettings, network: nn.Module | None = None) -> Fabric:
    """Fabric for the devices, nodes and precision asked for, by which ``network`` is trained; one process a device.

    Raises:
        InputError: when this machine lacks a device, the hardware the precision, or it cannot be shared out.
    """
    device = pick_device(settings.device)
    if settings.devices > 1 and device.index is not None:
        raise InputError(f"--device {settings.device} names one device; with --devices {settings.devices} give cuda")
    if device.type == "cuda" and settings.devices > torch.cuda.device_count():
        raise InputError(f"--devices {settings.devices}: torch sees {torch.cuda.device_count()} CUDA devices here")
    dtype = pick_dtype(device, settings.precision, trained=network)
    if settings.shard and dtype is torch.float16:
        raise InputError("train.shard goes with precision fp32 or bf16, not with fp16, whose losses are scaled")
    several = settings.devices * settings.nodes > 1
    return Fabric(
        accelerator=device.type,
        devices=[device.index] if device.index is not None else settings.devices,
        num_nodes=settings.nodes,
        strategy=_sharded(settings) if settings.shard else _ddp() if several else "auto",
        precision=_PRECISION[dtype],
    )


def _ddp() -> object:
    from lightning.fabric.strategies import DDPStrategy

    # Queues are kept equal by the methods, running statistics are each process's own: sending buffers at every step
    # would cost megabytes. torch renamed the option.
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return DDPStrategy(**{option: False})


def _sharded(settings: TrainSettings) -> object:
    from lightning.fabric.strategies import ModelParallelStrategy

    return ModelParallelStrategy(shard, data_parallel_size=settings.devices * settings.nodes, tensor_parallel_size=1)
