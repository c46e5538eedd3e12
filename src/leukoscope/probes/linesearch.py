from collections.abc import Callable

import torch
from torch import Tensor

_SUFFICIENT, _CURVATURE = 1e-4, 0.9
_TRIALS = 20
# Losses are float32: a rise below this share of the loss may be rounding.
_ROUNDING = 1e-6


def search(evaluate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], value: Tensor, slope: Tensor) -> Tensor:
    """Step lengths ``(P,)`` along P descent directions of convex functions that satisfy the strong Wolfe conditions.

    A problem whose first trial, the full step, satisfies them is not tried again; the others narrow their brackets by
    the secant of the slopes. A problem for which no trial satisfies them (its loss is flat to rounding) gets the best
    lower end of its bracket, possibly 0.

    Args:
        evaluate: ``(problems (p,), steps (p,))`` to the values and slopes ``(p,)`` there.
        value: values ``(P,)`` at step 0.
        slope: slopes ``(P,)`` at step 0, negative.
    """
    step = torch.ones_like(value)
    low, high = torch.zeros_like(value), torch.full_like(value, torch.inf)
    low_slope, high_slope = slope.clone(), torch.zeros_like(value)
    open_ = torch.arange(len(value), device=value.device)
    for _ in range(_TRIALS):
        tried = step[open_]
        found, inclination = evaluate(open_, tried)
        ceiling = value[open_] + _SUFFICIENT * tried * slope[open_] + _ROUNDING * value[open_].abs()
        beyond = (found > ceiling) | (inclination > 0)
        good = (found <= ceiling) & (inclination.abs() <= _CURVATURE * slope[open_].abs())
        high[open_] = torch.where(beyond, tried, high[open_])
        high_slope[open_] = torch.where(beyond, inclination, high_slope[open_])
        low[open_] = torch.where(beyond, low[open_], tried)
        low_slope[open_] = torch.where(beyond, low_slope[open_], inclination)
        open_ = open_[~good]
        if not len(open_):
            return step
        step[open_] = _next(low[open_], high[open_], low_slope[open_], high_slope[open_])
    step[open_] = low[open_]
    evaluate(open_, low[open_])
    return step


def _next(low: Tensor, high: Tensor, low_slope: Tensor, high_slope: Tensor) -> Tensor:
    """Four times as far where nothing bounds the step, else the zero of the slope's secant, well inside the bracket."""
    share = torch.where(high_slope > 0, -low_slope / (high_slope - low_slope), 0.5).clamp(0.05, 0.95)
    return torch.where(high.isinf(), 4 * low, low + share * (high - low))
