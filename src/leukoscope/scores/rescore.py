from pathlib import Path
from typing import Any

from leukoscope.cells import folds as folds_file
from leukoscope.common.errors import InputError
from leukoscope.common.files import Mark, read_json, write_json
from leukoscope.common.runs import run_mark
from leukoscope.common.settings import read_yaml
from leukoscope.scores import predictions as predictions_file
from leukoscope.scores.class_groups import Groups
from leukoscope.scores.results import score_predictions

_VERBS = ("evaluate", "finetune")
"""Whose runs are evaluations."""


def rescore(run: Path, *, groups: Groups | None = None) -> dict[str, Any]:
    """Compute ``results.json`` and ``tables/`` of an evaluation anew, from its predictions and folds alone.

    The number of resamples and their seed come from ``recipe.yaml`` where it is there; what the scores do not tell
    (origin of the encoders, provenance) is kept from the old ``results.json``.

    Args:
        run: the run folder of an evaluation; only ``predictions.parquet`` and ``folds.parquet`` must be there.
        groups: groups of classes to score as well; None takes those that were scored before, if any.

    Returns:
        What ``results.json`` now holds.

    Raises:
        InputError: when predictions or folds are missing or do not fit each other, groups and classes do not, or the
            run is one of another verb, whose results are more than its scores.
    """
    marked = Mark("recipe.yaml", "# leukoscope ").on(run)
    if marked and not any(run_mark(verb).on(run) for verb in _VERBS):
        raise InputError(f"{run}: a run of another verb than evaluate, whose page and results would be overwritten")
    table = predictions_file.read(run / "predictions.parquet")
    folds = folds_file.read(run / "folds.parquet")
    recipe = read_yaml(run / "recipe.yaml") if (run / "recipe.yaml").is_file() else {}
    options = {key: recipe[key] for key in ("task", "n_bootstrap", "seed") if key in recipe}
    old = read_json(run / "results.json") if (run / "results.json").is_file() else {}
    groups = groups or old.get("groups", {}).get("of") or recipe.get("groups")
    results = score_predictions(table, folds, groups=groups, **options)
    content = {**results.content, **{key: value for key, value in old.items() if key not in results.content}}
    results.write_tables(run / "tables")
    write_json(run / "results.json", content)
    return content
