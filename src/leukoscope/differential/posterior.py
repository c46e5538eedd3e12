"""What a sample's composition may have been, given what its cells were called and how the classifier errs."""

from dataclasses import dataclass

import numpy as np

# Pseudo-counts of the Dirichlet priors: of the proportions, and of a whole row of the confusion matrix.
_SHARE_PRIOR = 0.5
_ROW_PRIOR = 2.0

_CHAINS = 64
_BURN_IN = 80
_KEPT = 50
_THINNED = 2
_STEPS_TO_START = 300
_NEVER_NOTHING = 1e-3  # of a cell, so that no class is out of reach


@dataclass(frozen=True)
class Posterior:
    """Draws of what the sample and the patient may be.

    ``composition`` ``(S, K)`` are proportions among the cells that were imaged: of the classifier's errors alone are
    they uncertain. ``patient`` ``(S, K)`` are those of the blood that the cells are a sample of: counting errors come
    on top.
    """

    composition: np.ndarray
    patient: np.ndarray

    def among(self, kinds: np.ndarray) -> "Posterior":
        """The same of the cells of some classes ``(K,)`` bool alone; the others' proportions are 0."""
        return Posterior(*(_alone(draws, kinds) for draws in (self.composition, self.patient)))

    def interval(self, k: int, *, of_patient: bool) -> tuple[float, float]:
        """The equal-tailed 95 % interval of class k.

        It begins at 0 where no cell of the class may be in the sample at all, and so is an upper bound then.
        """
        low, high = np.quantile(self.composition[:, k], [0.025, 0.975])
        if not of_patient:
            return float(low), float(high)
        lowest, highest = np.quantile(self.patient[:, k], [0.025, 0.975])
        return (0.0 if low == 0 else float(lowest)), float(highest)


def composition_posterior(
    counts: np.ndarray, confusion: np.ndarray, *, seed: int = 0, chains: int = _CHAINS
) -> Posterior:
    r"""Sample the posterior of a sample's composition and of the proportions behind it.

    The model of Ziegler and Czyż 2024 (arXiv:2302.09159, section 3; Bayesian quantification with black-box
    estimators): the proportions p are Dirichlet, each cell is of a class drawn by p and is called by that class's row
    of M, and the rows of M are Dirichlet given the cross-validated confusions. A Gibbs sampler draws in turn the
    classes of the cells that were called alike, then p, then M (every step is conjugate), in many short chains at once.

    The priors are pseudo-counts: half a cell a class for p (Jeffreys'), two cells in all for each row of M, where the
    paper takes one a class for both. They were chosen among nine pairs for intervals that cover 95 % of samples drawn
    from a made-up classifier of eight classes, and not on any cells; ``leukoscope coverage`` shows what came of it.

    Args:
        counts: how many cells were called each class ``(K,)``.
        confusion: cross-validated counts ``(K, K)`` by true (row) and predicted class, each row in as many cells as it
            counts for: :attr:`~leukoscope.differential.classifier.ClassifierInfo.patients_confusion`.
        seed: of the draws.
        chains: how many, of 50 draws each; fewer are quicker and leave the ends of intervals less exact.
    """
    rng = np.random.default_rng(seed)
    classes = len(counts)
    prior = np.broadcast_to(confusion + _ROW_PRIOR / classes, (chains, classes, classes))
    called = _dirichlet(rng, prior)
    share = _start(counts, called)
    compositions, shares = [], []
    for step in range(_BURN_IN + _KEPT * _THINNED):
        cells = rng.multinomial(counts, _whose(share, called)).swapaxes(1, 2)
        of_class = cells.sum(axis=2)
        share = _dirichlet(rng, of_class + _SHARE_PRIOR)
        called = _dirichlet(rng, prior + cells)
        if step >= _BURN_IN and (step - _BURN_IN) % _THINNED == 0:
            compositions.append(of_class / counts.sum())
            shares.append(share)
    return Posterior(np.concatenate(compositions), np.concatenate(shares))


def _start(counts: np.ndarray, called: np.ndarray) -> np.ndarray:
    """The proportions ``(chains, K)`` that fit best under each chain's own M, by expectation-maximisation.

    From anywhere else a chain would take the longer to come there the more cells there are: of 100,000 it keeps in each
    step what they were called.
    """
    share = np.full(called.shape[:2], 1 / len(counts))
    for _ in range(_STEPS_TO_START):
        share = (counts[:, None] * _whose(share, called)).sum(axis=1) + _NEVER_NOTHING
        share /= share.sum(axis=1, keepdims=True)
    return share


def _whose(share: np.ndarray, called: np.ndarray) -> np.ndarray:
    """How probably a cell of each call is of each class ``(chains, called class, true class)``."""
    weight = (share[:, :, None] * called).swapaxes(1, 2)
    probable: np.ndarray = weight / weight.sum(axis=2, keepdims=True)
    return probable


def _dirichlet(rng: np.random.Generator, concentration: np.ndarray) -> np.ndarray:
    """Draws along the last axis; numpy's own takes one concentration only."""
    drawn = rng.standard_gamma(concentration)
    normalised: np.ndarray = drawn / drawn.sum(axis=-1, keepdims=True)
    return normalised


def _alone(draws: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    kept = np.where(kinds, draws, 0.0)
    # A draw may hold none of them.
    alone: np.ndarray = kept / np.maximum(kept.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return alone
