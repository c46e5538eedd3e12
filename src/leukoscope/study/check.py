from leukoscope.probes.registry import head_of
from leukoscope.scores.class_groups import resolve_groups
from leukoscope.study.cohorts import check_cohort
from leukoscope.study.encoders import settings_of
from leukoscope.study.finetuned import finetune_plans
from leukoscope.study.tasks import probe_settings, supervised_settings, task_folds
from leukoscope.study.taught import check_taught
from leukoscope.study.workspace import Workspace


def check_plan(space: Workspace) -> None:
    """Look, before anything is trained, for what would stop a study late: settings, heads, classes, too few cells.

    Raises:
        InputError: one line naming what is at fault.
    """
    for name, plan in space.recipe.encoders.items():
        if plan.pretrain is not None:
            settings_of(space, name)
    check_taught(space)
    for name, task in space.recipe.tasks.items():
        probes = probe_settings(space, name)
        for head in task.heads:
            head_of(head, probes.heads.get(head, {}))
        supervised_settings(space, name)
        finetune_plans(space, name)
        cellset, labels = space.annotated(task)
        task_folds(space, name, cellset, labels)
        if task.groups:
            resolve_groups(task.groups, sorted(set(labels.table["label"])))
    for name in space.recipe.cohorts:
        check_cohort(space, name)
