import numpy as np
from scipy.optimize import minimize_scalar

# Far beyond what any head needs; an optimum at a bound means that the probabilities are useless.
_COLDEST, _HOTTEST = 0.05, 20.0
_SMALLEST = float(np.finfo(np.float32).tiny)


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The temperature that minimises the log loss of ``probabilities`` ``(n, K)`` for classes ``truth`` ``(n,)``.

    One number for all classes (Guo et al. 2017, arXiv:1706.04599, section 4.2): above 1 the head was too sure of
    itself, below 1 not sure enough. The predicted class does not change. The log loss is convex in ``1 / T``.
    """
    logits = _logits(probabilities)
    rows = np.arange(len(truth))

    def loss(inverse: float) -> float:
        scaled = logits * inverse
        return float((np.logaddexp.reduce(scaled, axis=1) - scaled[rows, truth]).mean())

    best = minimize_scalar(loss, bounds=(1 / _HOTTEST, 1 / _COLDEST), method="bounded", options={"xatol": 1e-4})
    return float(1 / best.x)


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities ``(n, K)`` float64 as a softmax at ``temperature`` of the logits that they came from."""
    scaled = _logits(probabilities) / temperature
    calibrated: np.ndarray = np.exp(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True))
    return calibrated


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Logs of probabilities are their logits up to a constant a row, which the softmax removes."""
    logits: np.ndarray = np.log(np.clip(probabilities.astype(np.float64), _SMALLEST, None))
    return logits
