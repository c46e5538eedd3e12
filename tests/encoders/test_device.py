import pytest
import torch

from leukoscope.common.errors import InputError
from leukoscope.encoders.backbone import outline
from leukoscope.encoders.device import autocast, pick_device, pick_dtype


def test_auto_takes_what_is_there() -> None:
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [("gpu", "--device gpu: no such device"), ("cuda:99", "--device cuda:99: torch sees"), ("xla", "not supported")],
)
def test_absent_devices_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pick_device(name)


def test_auto_precision_never_emulates() -> None:
    cpu = torch.device("cpu")
    native = torch.cpu._is_avx512_bf16_supported()
    assert pick_dtype(cpu, "auto") == (torch.bfloat16 if native else torch.float32)
    assert pick_dtype(cpu, "fp32") == torch.float32


def test_auto_trains_channel_by_channel_networks_on_the_cpu_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    cpu, plain, by_channel = torch.device("cpu"), outline("resnet18"), outline("tf_efficientnet_lite0")
    assert pick_dtype(cpu, trained=plain) == pick_dtype(cpu) == torch.bfloat16
    assert pick_dtype(cpu, trained=by_channel) == torch.float32
    assert pick_dtype(cpu, "bf16", trained=by_channel) == torch.bfloat16
    assert pick_dtype(cpu, trained=outline("no_such_network")) == torch.bfloat16


def test_unknown_and_impossible_precisions_are_refused() -> None:
    cpu = torch.device("cpu")
    with pytest.raises(InputError, match="precision 'half': choose one of auto, fp32, bf16, fp16"):
        pick_dtype(cpu, "half")
    with pytest.raises(InputError, match="precision fp16: the CPU has no fast float16"):
        autocast(cpu, "fp16")
    if not torch.cpu._is_avx512_bf16_supported():
        with pytest.raises(InputError, match="precision bf16: cpu has no native bfloat16"):
            autocast(cpu, "bf16")


def test_float32_leaves_results_alone() -> None:
    with autocast(torch.device("cpu"), "fp32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
