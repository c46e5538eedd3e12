"""What attention lies on: the kinds of cells, where some cells have one."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from leukoscope.bags.stability import TOP
from leukoscope.scores.significance import holm

SUSPECT = "suspect kinds"
"""The name under which kinds that were named beforehand stand together."""
_BY = ["encoder", "head", "diagnosis", "kind"]


def relative_attention(attention: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """The attention of each cell to a class of its patient, averaged over seeds, as a multiple of an even share.

    Args:
        attention: of :class:`~leukoscope.bags.crossval.CrossValidatedBags`.
        labels: the class of each bag, by its name: its own, or the one that it was called.

    Returns:
        ``encoder, head, bag, diagnosis, cell_id, kind, attention``: 1 is what every cell would get were all alike;
        ``rank``, 0 to 1, within the bag. Without kinds, ``kind`` is None.
    """
    table = attention.assign(diagnosis=attention["bag"].map(labels))
    own = np.full(len(table), np.nan)
    for diagnosis in table["diagnosis"].unique():
        column = f"a_{diagnosis}"
        here = (table["diagnosis"] == diagnosis).to_numpy()
        if column in table:
            own[here] = table.loc[here, column]
    if "a" in table:
        own = np.where(np.isnan(own), table["a"], own)
    table["attention"] = own * table.groupby(["encoder", "head", "seed", "bag"])["cell_id"].transform("size")
    if "kind" not in table:
        table["kind"] = None
    keys = ["encoder", "head", "bag", "cell_id"]
    found = table.groupby(keys, as_index=False, sort=False).agg(
        {"diagnosis": "first", "kind": "first", "attention": "mean"}
    )
    found["rank"] = found.groupby(["encoder", "head", "bag"])["attention"].rank(pct=True)
    return found


def attention_by_kind(relative: pd.DataFrame, suspect: Sequence[str] = ()) -> pd.DataFrame:
    """How much attention each kind of cell gets in patients of each class (figure 4 of aml-ssl-mil), and a test of it.

    Args:
        relative: of :func:`relative_attention`.
        suspect: kinds, such as the malignant ones, that are also read as one, named beforehand.

    Returns:
        A row for each encoder, model, class of patients and kind: ``patients`` and ``cells`` that have it;
        ``attention``, the mean over patients of the mean over its cells, ``sd`` over patients; ``share`` of it among
        cells of known kind, ``top_share`` among those of the tenth with most attention, and ``enrichment``, their
        ratio; ``p`` of Wilcoxon's signed-rank test, over patients, that its cells get as much as the others of the same
        patient, and ``p_corrected`` by Holm over all rows of an encoder and model.
    """
    known = relative[relative["kind"].notna()]
    tables = [known]
    if suspect:
        tables.append(known.assign(kind=np.where(known["kind"].isin(suspect), SUSPECT, "others")))
    rows: list[dict[str, Any]] = []
    for table in tables:
        for (encoder, head, diagnosis), cells in table.groupby(["encoder", "head", "diagnosis"]):
            top = cells["rank"] > 1 - TOP
            for kind in sorted(set(cells["kind"]) - {"others"}):
                own = cells["kind"] == kind
                told = {"encoder": encoder, "head": head, "diagnosis": diagnosis, "kind": kind}
                rows.append(told | _of_kind(cells, own, top))
    found = pd.DataFrame(rows)
    if len(found):
        found["p_corrected"] = found.groupby(["encoder", "head"])["p"].transform(lambda p: holm(p.tolist()))
    return found


def _of_kind(cells: pd.DataFrame, own: pd.Series, top: pd.Series) -> dict[str, Any]:
    """What the cells ``own`` get, of patients of one class under one model."""
    of_patient = cells[own].groupby("bag")["attention"].mean()
    others = cells[~own].groupby("bag")["attention"].mean()
    difference = (of_patient - others).dropna().to_numpy()
    share, top_share = float(own.mean()), float(own[top].mean()) if top.any() else np.nan
    return {
        "patients": len(of_patient),
        "cells": int(own.sum()),
        "attention": float(of_patient.mean()),
        "sd": float(of_patient.std()),
        "share": share,
        "top_share": top_share,
        "enrichment": top_share / share,
        "p": _signed_rank(difference),
    }


def _signed_rank(difference: np.ndarray) -> float:
    """P of Wilcoxon's signed-rank test; 1 where there is nothing to test."""
    return float(wilcoxon(difference).pvalue) if len(difference) > 1 and difference.any() else 1.0


def summarise_removal(removal: pd.DataFrame) -> pd.DataFrame:
    """Whether answers rest on the cells of most attention: what is lost without them, and without random ones.

    Returns:
        A row an encoder and model: ``patients``; the mean over patients (and seeds) of the ``loss_top`` and
        ``loss_random`` of the probability of the class that was called; how often another class is called
        (``changed_top``, ``changed_random``); ``p`` of Wilcoxon's signed-rank test over patients that both lose alike.
    """
    if removal.empty:
        return removal
    table = removal.assign(
        loss_top=removal["whole"] - removal["without_top"], loss_random=removal["whole"] - removal["without_random"]
    )
    values = ["loss_top", "loss_random", "changed_top", "changed_random"]
    patients = table.groupby(["encoder", "head", "bag"])[values].mean().reset_index()
    rows = []
    for (encoder, head), own in patients.groupby(["encoder", "head"]):
        difference = (own["loss_top"] - own["loss_random"]).to_numpy()
        told = {"encoder": encoder, "head": head, "patients": len(own), **own[values].mean()}
        rows.append(told | {"p": _signed_rank(difference)})
    return pd.DataFrame(rows)


def summarise_stability(stability: pd.DataFrame) -> pd.DataFrame:
    """Mean over patients (and classes of attention) of the agreement between folds and between seeds; empty of none."""
    if stability.empty:
        return stability
    values = ["spearman", "overlap"]
    return stability.groupby(["encoder", "head", "between"], as_index=False)[values].mean()


def records(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """The rows for JSON, which has no NaN: what is not defined is None."""
    return table.astype(object).where(table.notna(), None).to_dict("records")
