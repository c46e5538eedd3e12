"""What a sample's composition may have been, given what its cells were called and how the classifier errs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from leukoscope.differential.answers import Answers
from leukoscope.differential.between_patients import ROW_PRIOR, Axis

# Pseudo-counts of the Dirichlet prior of the proportions, for each class.
_SHARE_PRIOR = 0.5

_CHAINS = 64
_BURN_IN = 80
_KEPT = 50
_THINNED = 2
_STEPS_TO_START = 300
_NEVER_NOTHING = 1e-3  # of a cell, so that no class is out of reach
_PLACES = np.linspace(-4, 4, 81)  # along the axis, in standard deviations


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


def posterior_of(probabilities: np.ndarray, answers: Answers, *, seed: int = 0, chains: int = _CHAINS) -> Posterior:
    """The posterior of the sample whose cells have these calibrated probabilities ``(n, K)``, by their answers.

    Args:
        probabilities: of the cells that are counted.
        answers: of the classifier.
        seed: as of :func:`composition_posteriors`.
        chains: as there.
    """
    return posteriors_of_patient([probabilities], answers, seed=seed, chains=chains)[0]


def posteriors_of_patient(
    samples: Sequence[np.ndarray], answers: Answers, *, seed: int = 0, chains: int = _CHAINS
) -> list[Posterior]:
    """The posteriors of samples of one patient, whose draws belong together: see :func:`composition_posteriors`.

    Args:
        samples: calibrated probabilities of the cells of each that are counted ``(n, K)``.
        answers: as of :func:`posterior_of`.
        seed: as there.
        chains: as there.
    """
    counts = np.stack([answers.tally(probabilities) for probabilities in samples])
    return composition_posteriors(counts, answers.confusion, axis=answers.patients_axis, seed=seed, chains=chains)


def composition_posterior(
    counts: np.ndarray, confusion: np.ndarray, *, axis: Axis | None = None, seed: int = 0, chains: int = _CHAINS
) -> Posterior:
    """The posterior of a single sample with ``counts`` ``(C,)``: see :func:`composition_posteriors`."""
    return composition_posteriors(counts[None], confusion, axis=axis, seed=seed, chains=chains)[0]


def composition_posteriors(
    counts: np.ndarray, confusion: np.ndarray, *, axis: Axis | None = None, seed: int = 0, chains: int = _CHAINS
) -> list[Posterior]:
    r"""Sample the posterior of the compositions of a patient's samples, and of the proportions behind them.

    The model of Ziegler and Czyż 2024 (arXiv:2302.09159, section 3; Bayesian quantification with black-box
    estimators): the proportions p are Dirichlet, each cell is of a class drawn by p and gets an answer by that class's
    row of M, and the rows of M are Dirichlet given the cross-validated confusions. A Gibbs sampler draws in turn the
    classes of the cells that got one answer, then p, then M (every step is conjugate), in many short chains at once.
    Samples of one patient have each a p of their own and one M together, so that the difference of two, draw by draw,
    is free of much that is not known of the classifier.

    Where patients differ along an ``axis``, each chain has first drawn where on it the sample's patient is, and has the
    confusions of that place: by how well some composition there explains the counts (the profile likelihood), times
    Student's distribution of as many degrees of freedom as patients, less one, tell of the axis. A place multiplies
    the entries of M by log-normal factors with the mean 1 and the axis' standard deviations.

    The priors are pseudo-counts: half a cell a class for p (Jeffreys'), two cells in all for each row of M, where the
    paper takes one a class for both. They were chosen among nine pairs for intervals that cover 95 % of samples drawn
    from a made-up classifier of eight classes, and not on any cells; ``leukoscope coverage`` shows what came of it.

    Args:
        counts: how many cells of each sample got each answer ``(I, C)``; the K classes are the answers of a plain
            confusion matrix.
        confusion: cross-validated counts ``(K, C)`` by true class (row) and answer, each row in as many cells as it
            counts for: :attr:`~leukoscope.differential.answers.Answers.confusion`.
        axis: along what patients differ in all rows together; None where that is not known.
        seed: of the draws.
        chains: how many, of 50 draws each; fewer are quicker and leave the ends of intervals less exact.

    Returns:
        One for each sample. Draws of the same number have the same M.
    """
    rng = np.random.default_rng(seed)
    rows = (confusion + ROW_PRIOR / confusion.shape[1])[None]
    if axis is not None:
        rows = _of_patients_like_this(rng, counts, rows[0], axis, chains)
    prior = np.broadcast_to(rows, (chains, *confusion.shape))
    called = _dirichlet(rng, prior)
    share = [_start(own, called) for own in counts]
    kept = [_Draws([], []) for _ in counts]
    for step in range(_BURN_IN + _KEPT * _THINNED):
        known = prior
        for sample, own in enumerate(counts):
            cells = rng.multinomial(own, _whose(share[sample], called)).swapaxes(1, 2)
            of_class = cells.sum(axis=2)
            share[sample] = _dirichlet(rng, of_class + _SHARE_PRIOR)
            known = known + cells
            if step >= _BURN_IN and (step - _BURN_IN) % _THINNED == 0:
                kept[sample].compositions.append(of_class / own.sum())
                kept[sample].shares.append(share[sample])
        called = _dirichlet(rng, known)
    return [Posterior(np.concatenate(draws.compositions), np.concatenate(draws.shares)) for draws in kept]


class _Draws(NamedTuple):
    """What the chains have drawn of a sample: ``(chains, K)`` of each step that is kept."""

    compositions: list[np.ndarray]
    shares: list[np.ndarray]


def _of_patients_like_this(
    rng: np.random.Generator, counts: np.ndarray, rows: np.ndarray, axis: Axis, chains: int
) -> np.ndarray:
    """The concentrations ``(chains, K, C)`` of ``rows`` at places on the axis that the samples' patient may be at."""
    cells = rows.sum(axis=1, keepdims=True)
    mean = rows / cells
    # Of a log-normal factor with the mean 1, whose standard deviation is that of the entry.
    log_variance = np.log1p((axis.deviation / mean) ** 2)
    step = np.sign(axis.deviation) * np.sqrt(log_variance)
    moved = mean * np.exp(_PLACES[:, None, None] * step - log_variance / 2)
    moved /= moved.sum(axis=2, keepdims=True)
    # A new patient, and a mean known from so many.
    from_mean = _PLACES / np.sqrt(1 + 1 / axis.patients)
    log_weight = student.logpdf(from_mean, axis.patients - 1)
    for own in counts:
        expected = (_start(own, moved)[:, :, None] * moved).sum(axis=1)
        log_weight = log_weight + (own * np.log(expected)).sum(axis=1)
    weight = np.exp(log_weight - log_weight.max()).cumsum()
    evenly = (np.arange(chains) + rng.random()) / chains
    chosen: np.ndarray = moved[np.searchsorted(weight / weight[-1], evenly)] * cells
    return chosen


def _start(counts: np.ndarray, called: np.ndarray) -> np.ndarray:
    """The proportions ``(chains, K)`` that fit best under each chain's own M ``(chains, K, C)``, by EM.

    From anywhere else a chain would take the longer to come there the more cells there are: of 100,000 it keeps in each
    step what they were called.
    """
    share = np.full(called.shape[:2], 1 / called.shape[1])
    for _ in range(_STEPS_TO_START):
        share = (counts[:, None] * _whose(share, called)).sum(axis=1) + _NEVER_NOTHING
        share /= share.sum(axis=1, keepdims=True)
    return share


def _whose(share: np.ndarray, called: np.ndarray) -> np.ndarray:
    """How probably a cell of each answer is of each class ``(chains, C, K)``."""
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
