from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli import options
from leukoscope.cli.output import say, say_json


def study(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file such as recipes/*.yaml.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the study; one cut off goes on.")],
    overrides: options.Overrides = None,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Go on where the audit finds what would spoil an evaluation.")
    ] = False,
    jobs: options.Jobs = 0,
    json: options.Json = False,
) -> None:
    """Carry out a recipe: pack, audit, pre-train, embed, evaluate, report. The same command again goes on."""
    from leukoscope.cli.scores import say_cohort, say_samples, say_scores
    from leukoscope.study.run import study as run

    results = run(recipe, out, overrides=overrides or [], allow_leaks=allow_leaks, jobs=jobs)
    for name, task in results["tasks"].items():
        say_scores(name, task)
        if "groups" in task:
            say_scores(f"{name} by class groups", {**task, **task["groups"], "classes": task["groups"]["of"]})
    for name, cohort in results["cohorts"].items():
        say_cohort(name, cohort)
    say_samples(results["samples"])
    for name in results["tasks"]:
        say(f"report: {out / 'tasks' / name / 'report.html'}")
    for name in results["cohorts"]:
        say(f"report: {out / 'cohorts' / name / 'report.html'}")
    for name in results["samples"]:
        say(f"report: {out / 'samples' / name / 'report.html'}; to look through its cells: leukoscope review "
            f"{out / 'samples' / name}")  # fmt: skip
    say_json(json, {"out": str(out), "seconds": results["seconds"]})
