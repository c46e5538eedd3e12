from collections.abc import Sequence

import torch
from torch import Tensor


class StackedAdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2) for P models in stacked parameters ``(P, ...)``.

    Each model has its own learning rate; a model with rate 0 stays as it is. Step for step what ``torch.optim.AdamW``
    does for each model alone, in place and without its one-tensor-at-a-time bookkeeping.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        *,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self._parameters = parameters
        self._decay, self._betas, self._epsilon = weight_decay, betas, epsilon
        self._first = [torch.zeros_like(each) for each in parameters]
        self._second = [torch.zeros_like(each) for each in parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rates: Tensor) -> None:
        """Move every parameter by its gradient, with learning rates ``(P,)``."""
        self._steps += 1
        fast, slow = self._betas
        first_bias, second_bias = 1 - fast**self._steps, 1 - slow**self._steps
        for p, g, m, v in zip(self._parameters, gradients, self._first, self._second, strict=True):
            rate = rates.view(-1, *[1] * (p.ndim - 1))
            m.lerp_(g, 1 - fast)
            v.mul_(slow).addcmul_(g, g, value=1 - slow)
            p.mul_(1 - rate * self._decay)
            p.sub_((m / (v / second_bias).sqrt_().add_(self._epsilon)).mul_(rate / first_bias))
