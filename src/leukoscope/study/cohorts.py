"""Patients judged by their cells, on every encoder of the recipe, with their pages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.bags.bags import Bags, bags_of
from leukoscope.bags.baselines import BASELINES, kind_shares
from leukoscope.bags.crossval import BagSettings
from leukoscope.bags.curve import Curve, check_curve
from leukoscope.bags.folds import bag_folds, hold_back, outer_folds
from leukoscope.bags.mil import mil, refuse_unknown
from leukoscope.bags.registry import model_of
from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.common.files import read_json
from leukoscope.common.runs import log
from leukoscope.encoders.features import Features
from leukoscope.methods.pretrain import pretrain
from leukoscope.report.cohort_page import write_cohort_report
from leukoscope.study.encoders import settings_of
from leukoscope.study.tasks import embedded, feature_name
from leukoscope.study.workspace import Workspace


def check_cohort(space: Workspace, name: str) -> None:
    """Look for what would stop a cohort late: columns, classes, too few patients, heads, settings.

    Raises:
        InputError: one line naming what is at fault.
    """
    plan, settings = space.recipe.cohorts[name], bag_settings(space, name)
    for head in plan.heads:
        if head not in BASELINES:
            model_of(head, settings.models.get(head, {}))
    bags, folds = cohort_folds(space, name)
    where = f"{space.recipe.name}: cohorts.{name}"
    refuse_unknown(plan.suspect, bags)
    if "kind-shares" in plan.heads:
        kind_shares(bags)
    if "map-attention" in plan.heads and not plan.maps:
        raise InputError(f"{where}.heads: map-attention needs maps: true")
    own = set(bags.features.ids)
    for encoder in plan.inside:
        if not any(own & set(space.cells(reference).ids) for reference in space.recipe.encoders[encoder].cells):
            raise InputError(f"{where}.inside: {encoder} names no cells of {plan.cells} and has none to learn from")
    if any(head not in BASELINES for head in plan.heads):
        for seed in plan.seeds:
            for _, training, _ in outer_folds(bags, folds):
                hold_back(bags, training, settings.validation_share, seed)
    if (curve := curve_of(space, name)) is not None:
        check_curve(bags, folds, curve, plan.heads, settings, space.recipe.seed)


def bag_settings(space: Workspace, name: str) -> BagSettings:
    """The settings of a cohort's models, on the recipe's device where they name none.

    Raises:
        InputError: one line naming the key at fault.
    """
    given = {"device": space.recipe.device, **space.recipe.cohorts[name].mil}
    return BagSettings.parse(given, f"{space.recipe.name}: cohorts.{name}.mil")


def curve_of(space: Workspace, name: str) -> Curve | None:
    """The learning curve that a cohort asks for.

    Raises:
        InputError: one line naming the key at fault.
    """
    given = space.recipe.cohorts[name].curve
    return None if given is None else Curve.parse(given, f"{space.recipe.name}: cohorts.{name}.curve")


def cohort_folds(space: Workspace, name: str) -> tuple[Bags, pd.DataFrame]:
    """A cohort's patients, without features, and the folds over them that all encoders share."""
    plan = space.recipe.cohorts[name]
    cells = space.cells(plan.cells).cells
    bare = Features(np.zeros((len(cells), 1), np.float32), cells)
    bags = bags_of(bare, bag=plan.bag, label=plan.label, group=plan.group, kind=plan.kind)
    return bags, bag_folds(bags, n_folds=plan.folds, seed=space.recipe.seed)


def judge_patients(space: Workspace, name: str, bundles: Mapping[str, Mapping[str, Path]]) -> dict[str, Any]:
    """Cross-validate a cohort's models of bags on every encoder, and write its pages; what is whole stays."""
    plan, out = space.recipe.cohorts[name], space.cohort_path(name)
    cellset = space.cells(plan.cells)
    bags, folds = cohort_folds(space, name)
    features = {
        feature_name(encoder, trial): _embedded(space, name, feature_name(encoder, trial), cellset, bundle)
        for encoder, trials in bundles.items()
        for trial, bundle in trials.items()
    }
    inside = {encoder: _pretrained_inside(space, name, encoder, bags, folds) for encoder in plan.inside}
    if not (out / "results.json").exists():
        plans = [space.recipe.encoders[encoder] for encoder in bundles]
        mil(
            features,
            out,
            bag=plan.bag,
            label=plan.label,
            group=plan.group,
            kind=plan.kind,
            suspect=plan.suspect,
            heads=plan.heads,
            seeds=plan.seeds,
            settings=bag_settings(space, name),
            folds=folds,
            inside=inside,
            curve=curve_of(space, name),
            pretrain=[space.cells(reference) for each in plans if each.pretrain for reference in each.cells],
            task=name,
            seed=space.recipe.seed,
        )
    if not (out / "report.html").exists():
        title = f"{space.recipe.title}: {name}"
        # Of an encoder that is another in each fold, the first stands for all on the map.
        shown = {**features, **{encoder: next(iter(own.values())) for encoder, own in inside.items()}}
        write_cohort_report(out, features=shown, cellset=cellset, title=title, seed=space.recipe.seed)
    return read_json(out / "results.json")


def _pretrained_inside(
    space: Workspace, name: str, encoder: str, bags: Bags, folds: pd.DataFrame
) -> dict[tuple[int, int], Features]:
    """Features of all cells by an encoder that was pre-trained in each fold on the cells of its training patients."""
    cellset = space.cells(space.recipe.cohorts[name].cells)
    allowed = {cell for reference in space.recipe.encoders[encoder].cells for cell in space.cells(reference).ids}
    patients = bags.names[bags.of]
    found = {}
    for fold, rows in folds[folds["role"] == "train"].groupby("fold"):
        run = space.encoder_path(encoder, f"{name}-f{fold}")
        if not (run / "encoder").exists():
            log.info("cohort %s: pre-train %s inside fold %s", name, encoder, fold)
            training = set(bags.features.ids[np.isin(patients, rows["cell_id"])]) & allowed
            (settings,) = settings_of(space, encoder).values()
            pretrain([cellset.select(np.isin(cellset.ids, list(training)))], run, settings=settings)
        found[0, int(str(fold))] = _embedded(space, name, f"{encoder}-f{fold}", cellset, run / "encoder")
    return found


def _embedded(space: Workspace, name: str, key: str, cellset: CellSet, bundle: Path) -> Features:
    plan = space.recipe.cohorts[name]
    return embedded(
        space, f"cohort-{name}", key, cellset, bundle, readout=plan.embed, maps=plan.maps, flipped=plan.flipped
    )
