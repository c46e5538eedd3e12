from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import nn

from leukoscope.cells.folds import split
from leukoscope.common.errors import CheckFailed, InputError
from leukoscope.common.runs import log
from leukoscope.probes.trainer import Plan, Trainer
from leukoscope.training.monitors import refuse_divergence


@dataclass(frozen=True)
class Tuned:
    """What model selection found: the plan, and the network that was trained by it without the validation cells.

    ``probabilities`` ``(n, K)`` are what that network says of the validation cells. ``tried`` has a row for each
    combination of learning rates: ``rates, epochs, log_loss, accuracy``.
    """

    plan: Plan
    network: nn.Module
    probabilities: np.ndarray
    tried: list[dict[str, object]]


def tune(trainer: Trainer, fit: np.ndarray, validation: np.ndarray, *, follow: bool = False) -> Tuned:
    """Train on the rows ``fit`` by every combination of learning rates; the best on the rows ``validation`` is kept.

    Of equals the first is taken. A combination that diverges is passed over, unless all do. ``follow`` tells the
    validation loss of every epoch also where no stage ends by it.

    Raises:
        CheckFailed: when all of them diverge.
    """
    settings = trainer.settings
    watch = validation if follow or settings.stops_early else None
    found: list[tuple[float, Tuned]] = []
    tried: list[dict[str, object]] = []
    for rates in settings.rates:
        try:
            network, plan = trainer.fit(fit, Plan.whole(settings, rates), watch=watch)
            probabilities = trainer.predict(network, validation)
            loss, accuracy = trainer.scores(probabilities, validation)
            # The last step may be the one that diverges: no training loss tells of it.
            refuse_divergence(loss, sum(plan.epochs))
        except CheckFailed as error:
            if len(settings.rates) == 1:
                raise
            log.warning("learning rates %s: %s", _named(rates), error)
            continue
        tried.append({"rates": _named(rates), "epochs": _named(plan.epochs), "log_loss": loss, "accuracy": accuracy})
        rank = loss if settings.choose_by == "log_loss" else -accuracy
        if not found or rank < found[0][0]:
            # One network at a time is kept.
            found = [(rank, Tuned(plan, network, probabilities, tried))]
    if not found:
        raise CheckFailed(
            f"every combination of learning rates diverged ({len(settings.rates)} tried); give lower ones"
        )
    return found[0][1]


def inner_split(trainer: Trainer, rows: np.ndarray, group: pd.Series | None) -> tuple[np.ndarray, np.ndarray]:
    """Split training ``rows``: those to fit on and those to choose by, stratified, with duplicates and groups together.

    Args:
        trainer: whose cells, classes, share and seed are taken.
        rows: of the training cells.
        group: the patient or slide of each ``cell_id``, None where cells are taken one by one.

    Raises:
        InputError: when the cells cannot be split.
    """
    share = trainer.settings.inner_share
    cells = trainer.cellset.cells.iloc[rows][["cell_id"]].reset_index(drop=True)
    if group is not None:
        cells["group"] = cells["cell_id"].map(group)
    column = None if group is None else "group"
    truth = trainer.truth[rows].numpy()
    part = split(cells, truth, {"fit": 1 - share, "choose": share}, group=column, seed=trainer.settings.seed)
    fit, choose = (rows[(part == name).to_numpy()] for name in ("fit", "choose"))
    if not len(fit) or not len(choose):
        raise InputError(
            f"{trainer.cellset.path}: {len(rows)} training cells cannot be split into some to fit on and some to "
            "choose by; give more of them, or --group none where they are all of one group"
        )
    return fit, choose


def _named(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
