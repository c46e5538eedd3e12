"""The tables of docs/methods.md, from a finished study of recipes/methods-cpu.yaml and benchmarks/methods.py.

    leukoscope study recipes/methods-cpu.yaml out/
    python benchmarks/methods.py > costs.jsonl
    python benchmarks/methods_table.py out/ --costs costs.jsonl

Markdown: accuracy with 95 % intervals over test cells, mean accuracy of the linear probe on few labels with its
standard deviation over folds and draws, what an epoch costs; then what is lost on cells of another laboratory.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from leukoscope.common.files import read_json
from leukoscope.scores.shift import REMEDIED

HEADS = ("linear", "mlp", "knn")
FEW = ("350", "50", "10")


def ranged(scores: dict[str, Any]) -> str:
    """``0.912 [0.905, 0.920]``."""
    return f"{scores['mean']:.3f} [{scores['low']:.3f}, {scores['high']:.3f}]"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def comparison(task: dict[str, Any], costs: dict[str, dict[str, float]]) -> str:
    """All encoders, the best linear probe first; those that were taught with labels last, in a block of their own."""
    scores, few = task["scores"], task["few_labels"]["scores"]
    taught = {name for name, origin in task["encoders"].items() if origin["with_labels"]}
    names = sorted(scores, key=lambda name: (name in taught, -scores[name]["linear"]["accuracy"]["mean"]))
    rows = []
    for name in names:
        told = f"{name}, with labels" if name in taught else name
        accuracies = [ranged(scores[name][head]["accuracy"]) for head in HEADS]
        few_told = [_spread(few[count].get(name)) for count in FEW]
        cost = costs.get(name, {})
        paid = [f"{cost['times moco']:.2f}" if "times moco" in cost else "-"]
        paid += [f"{cost['peak MiB']:,.0f}" if cost else "-"]
        rows.append([told, *accuracies, *few_told, *paid])
    few_heads = [f"linear, {count} labels" for count in FEW]
    return markdown(["encoder", *HEADS, *few_heads, "time of an epoch, MoCo's is 1", "peak memory, MiB"], rows)


def _spread(heads: dict[str, Any] | None) -> str:
    if heads is None:
        return "-"
    found = heads["linear"]["accuracy"]
    return f"{found['mean']:.3f} ({found['sd']:.3f})"


def elsewhere(shift: dict[str, Any], head: str) -> str:
    """Accuracy at home and elsewhere, the drop, and the drop under each remedy."""
    drops = {name: heads[head]["accuracy"] for name, heads in shift["drop"].items() if head in heads}
    plain = sorted((name for name in drops if REMEDIED not in name), key=lambda name: drops[name]["drop"])
    remedies = sorted({name.partition(REMEDIED)[2] for name in drops} - {""})
    rows = []
    for name in plain:
        own = drops[name]
        remedied = [drops.get(f"{name}{REMEDIED}{remedy}") for remedy in remedies]
        away = ranged(shift["scores"]["new"][name][head]["accuracy"])
        rows.append([name, f"{own['known']:.3f}", away, _drop(own), *map(_drop, remedied)])
    return markdown(["encoder", "at home", "elsewhere", "drop", *(f"drop, {remedy}" for remedy in remedies)], rows)


def _drop(found: dict[str, float] | None) -> str:
    return "-" if found is None else f"{found['drop']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--costs", type=Path, help="what benchmarks/methods.py printed")
    given = parser.parse_args()
    lines = given.costs.read_text().splitlines() if given.costs else []
    costs = {row["method"]: row for row in map(json.loads, lines)}
    study = read_json(given.study / "results.json")
    for name, task in study["tasks"].items():
        print(f"{name}: {task['n']} cells, {task['folds']} folds\n\n{comparison(task, costs)}\n")
    for name, shift in study["shifts"].items():
        for head in ("linear", "knn"):
            counts = f"{shift['n']['known']} cells at home, {shift['n']['new']} elsewhere"
            print(f"{name}, {head}: {counts}\n\n{elsewhere(shift, head)}\n")


if __name__ == "__main__":
    main()
