"""Learning curves over patients: what more of them would bring."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from pydantic import Field

from leukoscope.bags.bags import Bags
from leukoscope.bags.baselines import BASELINES
from leukoscope.bags.crossval import BagSettings, cross_validate_bags
from leukoscope.bags.folds import hold_back, outer_folds
from leukoscope.cells.few import few_labels
from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings
from leukoscope.scores.metrics import score
from leukoscope.scores.predictions import BLOCK, blocks_of

METRICS = ("f1_macro", "roc_auc_macro", "pr_auc_macro", "balanced_accuracy")


class Curve(Settings):
    """Numbers of training patients to try, and how often each is drawn; the test patients stay what they are."""

    counts: tuple[int, ...] = Field(min_length=1)
    draws: int = Field(default=3, ge=1)


def check_curve(
    bags: Bags, folds: pd.DataFrame, curve: Curve, heads: Sequence[str], settings: BagSettings, seed: int
) -> None:
    """Refuse numbers of patients that some draw cannot have, before anything is trained.

    Raises:
        InputError: one line naming the number at fault.
    """
    training = int((folds["role"] == "train").groupby(folds["fold"]).sum().min())
    for count in curve.counts:
        if not len(bags.classes) <= count <= training:
            raise InputError(f"--curve {count}: give from {len(bags.classes)} to {training} training patients")
        if all(name in BASELINES for name in heads):
            continue
        for _, part in _draws(bags, folds, count, curve.draws, seed):
            for _, chosen, _ in outer_folds(bags, part):
                try:
                    hold_back(bags, chosen, settings.validation_share, seed)
                except InputError as error:
                    raise InputError(f"--curve {count}: {error}") from None


def learning_curve(
    bags: Bags,
    folds: pd.DataFrame,
    curve: Curve,
    *,
    heads: Sequence[str],
    encoder: str,
    seed: int,
    settings: BagSettings,
) -> pd.DataFrame:
    """Train on so many patients of each training fold, each class by its share, and judge the same test patients.

    Patients of a smaller number are among those of a larger one.

    Returns:
        ``encoder, head, patients, draw, fold`` and every metric.
    """
    rows: list[dict[str, Any]] = []
    for count in sorted(curve.counts):
        for draw, part in _draws(bags, folds, count, curve.draws, seed):
            said = cross_validate_bags(
                bags, part, heads=heads, encoder=encoder, seeds=(seed,), settings=settings, read=False
            ).predictions
            for key, block in blocks_of(said, BLOCK):
                told = dict(zip(BLOCK, key, strict=True))
                rows.append(
                    {"encoder": encoder, "head": told["head"], "patients": count, "draw": draw, "fold": told["fold"]}
                    | score(block)
                )
    return pd.DataFrame(rows)


def summarise_curve(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over folds and draws: ``encoder, head, patients``, and ``METRIC``, ``METRIC_sd``."""
    groups = table.groupby(["encoder", "head", "patients"], sort=False)[list(METRICS)]
    return groups.mean().join(groups.std().add_suffix("_sd")).reset_index()


def _draws(bags: Bags, folds: pd.DataFrame, count: int, draws: int, seed: int) -> Iterator[tuple[int, pd.DataFrame]]:
    labels = dict(zip(bags.names, bags.labels, strict=True))
    for draw, part in few_labels(folds, labels, count, draws=draws, seed=seed).groupby("repeat"):
        yield int(str(draw)), part.assign(repeat=0)
