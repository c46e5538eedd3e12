"""Scores of a study on those of its evaluated cells that another seed's split would have kept for pre-training.

    python benchmarks/unseen.py STUDY SET TASK --chosen-on SEED

Settings that were chosen on the evaluated cells of one split are scored too well on those cells. This splits SET of
the finished study again by the seed they were chosen with, drops from the study's predictions every cell that was
evaluated then, and scores what is left: cells that no choice has seen. The study's own recipe has another seed.
"""

import argparse
from pathlib import Path

from leukoscope.common.settings import read_yaml
from leukoscope.scores import predictions
from leukoscope.scores.summary import summarise
from leukoscope.study.prepare import parts_of
from leukoscope.study.recipe import Recipe
from leukoscope.study.workspace import Workspace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("set")
    parser.add_argument("task")
    parser.add_argument("--chosen-on", type=int, required=True, help="seed of the split that settings were chosen on")
    given = parser.parse_args()
    recipe = Recipe.parse(read_yaml(given.study / "recipe.yaml"), where=str(given.study))
    if recipe.seed == given.chosen_on:
        parser.error(f"the study itself has seed {recipe.seed}: every cell it evaluates was seen")
    space = Workspace(given.study, recipe)
    cellset = space.cells(given.set)
    parts = parts_of(cellset, recipe.sets[given.set], seed=given.chosen_on)
    seen = set(cellset.ids[parts == recipe.tasks[given.task].cells.partition(".")[2]])
    table = predictions.read(space.task_path(given.task) / "predictions.parquet")
    unseen = table[~table["cell_id"].isin(seen)]
    print(f"{unseen['cell_id'].nunique()} of {table['cell_id'].nunique()} evaluated cells were not evaluated before")
    for encoder, heads in summarise(unseen, n_bootstrap=1000, seed=0).scores.items():
        for head, scores in heads.items():
            accuracy = scores["accuracy"]
            print(f"{encoder:12} {head:10} {accuracy['mean']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]")


if __name__ == "__main__":
    main()
