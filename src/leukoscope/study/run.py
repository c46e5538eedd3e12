from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from leukoscope.common.errors import InputError
from leukoscope.common.runs import run_folder
from leukoscope.study.recipe import read_recipe
from leukoscope.study.workspace import Workspace

# By what is seen that a part of a recipe was begun. Before that it may change, and new parts may come at any time.
_LEAVES = {
    "sets": ("sets/{}.set", "sets/{}.split.parquet"),
    "encoders": ("encoders/{}",),
    "tasks": ("features/{}", "supervised/{}", "finetuned/{}", "tasks/{}"),
    "cohorts": ("features/cohort-{}", "cohorts/{}"),
    "shifts": ("features/shift-{}", "shifts/{}"),
    "samples": ("samples/{}",),
}


def study(
    recipe: Path,
    out: Path,
    *,
    overrides: Iterable[str] = (),
    allow_leaks: bool = False,
    jobs: int = 0,
) -> dict[str, Any]:
    """Carry out a recipe: cells, audit, encoders, evaluations with their reports, samples.

    ``out`` keeps every stage; the same call goes on where one was cut off and repeats nothing that is whole. What was
    not begun may change; sets, tasks and samples may be added to a study that is done, and use its encoders.

    Args:
        recipe: the YAML file, see :class:`~leukoscope.study.recipe.Recipe`.
        out: the run folder; each task's report is ``out/tasks/TASK/report.html``.
        overrides: ``key.inner=value`` laid over the recipe.
        allow_leaks: go on where the audit finds what would spoil an evaluation.
        jobs: processes for packing and simulating; 0 takes one a core.

    Returns:
        What ``results.json`` holds, less the provenance: scores by task, sweeps, samples, seconds by stage.

    Raises:
        InputError: when the recipe is at fault, or ``out`` holds a study of another recipe.
        CheckFailed: when the audit finds a leak.
    """
    plan = read_recipe(recipe, overrides)
    resolved = plan.model_dump(mode="json")
    _refuse_another(out, resolved)
    # Imported here: reading a recipe that is at fault should not wait for torch.
    from leukoscope.study.stages import carry_out

    with run_folder(out, verb="study", settings=resolved, seed=plan.seed, resumable=True) as run:
        results = carry_out(Workspace(out, plan), allow_leaks=allow_leaks, jobs=jobs)
        run.finish(results)
    return results


def _refuse_another(out: Path, resolved: dict[str, Any]) -> None:
    if not (out / "recipe.yaml").exists():
        if out.exists() and any(out.iterdir()):
            raise InputError(f"{out}: exists and holds no study; choose another folder")
        return
    # Read as a recipe: keys that came since it was written have their defaults, and are no difference.
    before = read_recipe(out / "recipe.yaml").model_dump(mode="json")
    changed = _differences(out, before, resolved)
    if changed:
        raise InputError(
            f"{out}: holds a study of another recipe (it differs in {', '.join(changed)}); choose another folder"
        )


def _differences(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Keys, such as ``seed`` or ``tasks.kinds``, of what was begun by another recipe."""
    # A title is words on pages.
    keys = (before.keys() | now.keys()) - _LEAVES.keys() - {"title"}
    found = sorted(key for key in keys if before.get(key) != now.get(key))
    for key, leaves in _LEAVES.items():
        old, new = before.get(key, {}), now.get(key, {})
        for name in sorted(old.keys() | new.keys()):
            begun = any((out / leaf.format(name)).exists() for leaf in leaves)
            # A set that is opened leaves nothing of its own.
            begun = begun or (key == "sets" and _used(out, before, name))
            # An encoder that comes later would be missing where tasks have been evaluated.
            judged = any((out / stage).exists() for stage in ("tasks", "cohorts"))
            late = key == "encoders" and name not in old and judged
            if old.get(name) != new.get(name) and (begun or late):
                found.append(f"{key}.{name}")
    return found


def _used(out: Path, recipe: Mapping[str, Any], cells: str) -> bool:
    """Whether anything of ``recipe`` that takes the set ``cells`` was begun."""
    return any(
        reference.partition(".")[0] == cells and any((out / leaf.format(name)).exists() for leaf in leaves)
        for key, leaves in _LEAVES.items()
        for name, plan in recipe.get(key, {}).items()
        for reference in _cells_of(plan)
    )


def _cells_of(plan: Mapping[str, Any]) -> list[str]:
    """The cells, ``SET`` or ``SET.PART``, that a part of a recipe takes, or is made of."""
    sources = [made["source"] for made in (plan.get("spoil"), plan.get("cohort")) if made]
    taken = plan.get("cells", [])
    return [*sources, *([taken] if isinstance(taken, str) else taken)]
