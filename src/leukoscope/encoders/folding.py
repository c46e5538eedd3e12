import copy

import torch.fx
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_NORMS = (nn.BatchNorm2d, BatchNormAct2d)


class _Tracer(torch.fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Ours looks at the size of its input, which a trace does not know; timm's norms are to be found whole.
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def fold_norms(network: nn.Module) -> nn.Module:
    """A copy of a frozen ``network`` in which batch norms are part of the convolutions that feed them.

    Values stay the same up to rounding, with one pass over the maps less for each norm. A network that cannot be
    traced, or has nothing to fold, comes back itself.
    """
    try:
        graph = _Tracer().trace(network)
    except Exception:  # control flow that depends on values ends a trace with errors of any kind
        return network
    modules = dict(network.named_modules())
    pairs = [
        (str(node.args[0].target), str(node.target))
        for node in graph.nodes
        if node.op == "call_module" and type(modules[str(node.target)]) in _NORMS and _feeds(node, modules)
    ]
    if not pairs:
        return network
    twin = copy.deepcopy(network)
    for conv, norm in pairs:
        old = twin.get_submodule(norm)
        twin.set_submodule(conv, fuse_conv_bn_eval(twin.get_submodule(conv), old))  # type: ignore[type-var,arg-type]
        # timm's norm brings its activation with it.
        twin.set_submodule(norm, nn.Sequential(old.drop, old.act) if isinstance(old, BatchNormAct2d) else nn.Identity())
    return twin


def _feeds(norm: torch.fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether the input of ``norm`` is a convolution's output that nothing else reads, and neither is used twice."""
    before = norm.args[0]
    if not isinstance(before, torch.fx.Node) or before.op != "call_module" or len(before.users) > 1:
        return False
    calls = [node.target for node in norm.graph.nodes if node.op == "call_module"]
    once = calls.count(before.target) == calls.count(norm.target) == 1
    return once and isinstance(modules[str(before.target)], nn.Conv2d)
