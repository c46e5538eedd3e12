"""What the page says in words and lists: the summary, what was run and on what, where it came from, what words mean."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from leukoscope.cells.cellset import CellSet
from leukoscope.common.files import read_json
from leukoscope.common.settings import read_yaml
from leukoscope.report.evaluation import Evaluation
from leukoscope.report.tables import NO_VALUE, Field, Group, Table, pairs_table
from leukoscope.scores.significance import FINETUNED, SUPERVISED, frozen

GLOSSARY = {
    "balanced accuracy": "Recall averaged over classes, each counting the same however many cells it has.",
    "confusion matrix": "Rows are true classes, columns predicted ones; shares are of the row.",
    "ECE": "Expected calibration error: the mean distance of probabilities given from the share of right answers.",
    "encoder": "The network that turns a cell's image into features. Frozen: not changed by the labels used here.",
    "fold": "One of the parts that the cells are dealt into; each is tested by heads fitted on the others.",
    "head": "The small classifier on top of the features: linear, MLP, or k nearest neighbours.",
    "interval": "95 % percentile bootstrap over cells, or over patients where folds follow them.",
    "kappa": "Cohen's kappa: agreement beyond what the class shares alone would give; 0 is chance, 1 is perfect.",
    "Nadeau-Bengio": "A paired t-test over folds with a variance that allows for the training cells which folds share.",
    "RankMe": "Effective number of dimensions that the features use; near 1 they have collapsed.",
    "top-1 accuracy": "In pre-training: how often a view's own partner is the closest of all keys.",
}
_SHORT = 16
_SEVERITIES = ("spoils", "warns", "info")


def title(evaluation: Evaluation, cellset: CellSet | None) -> str:
    """A title from the task and the name of the cells, as far as they are known."""
    cells = cellset.path.name.removesuffix(".set") if cellset is not None else evaluation.path.resolve().name
    task = evaluation.results.get("task")
    return f"{task[:1].upper()}{task[1:]}: {cells}" if task else f"Evaluation: {cells}"


def facts(evaluation: Evaluation, cellset: CellSet | None) -> list[tuple[str, str]]:
    """The few facts that stand under the title."""
    n_folds, repeats = _n_folds(evaluation)
    found = [
        ("cells", f"{sum(evaluation.class_counts.values()):,}"),
        ("classes", str(len(evaluation.classes))),
        ("folds", f"{n_folds} × {repeats}" if repeats > 1 else str(n_folds)),
    ]
    if cellset is not None:
        found.append(image_fact(cellset))
    if end := evaluation.provenance.get("end"):
        found.append(("date", str(end)[:10]))
    return found


def image_fact(cellset: CellSet) -> tuple[str, str]:
    """What the images are, as a fact under a title."""
    info = cellset.info
    return "images", f"{info.height} × {info.width} px, {info.bit_depth} bit, {_channels(info.channels)}"


def what_was_run(evaluation: Evaluation) -> Table:
    """Command, times, seeds, encoders and heads."""
    origin = evaluation.provenance
    n_folds, repeats = _n_folds(evaluation)
    encoders = dict.fromkeys(encoder for encoder, head in evaluation.pairs if frozen(encoder, head))
    heads = dict.fromkeys(head for encoder, head in evaluation.pairs if frozen(encoder, head))
    tuned = [encoder for encoder, head in evaluation.pairs if head == FINETUNED]
    networks = [head for encoder, head in evaluation.pairs if encoder == SUPERVISED]
    grouped = f", keeping each {evaluation.group} whole" if evaluation.group else ", stratified by class"
    held_out = f"{n_folds} folds, {repeats} {'repeats' if repeats > 1 else 'repeat'}"
    if n_folds == 1:
        held_out = "one part of the cells held out"
    rows = [
        ("command", str(origin.get("command", ""))),
        ("task", _plain(evaluation.results.get("task", ""))),
        ("frozen encoders", ", ".join(encoders)),
        ("heads", ", ".join(heads)),
        ("fine-tuned encoders", ", ".join(tuned)),
        ("supervised baselines", ", ".join(networks)),
        ("folds", f"{held_out}{grouped}"),
        ("seeds", ", ".join(str(seed) for seed in sorted(evaluation.predictions["seed"].unique()))),
        ("started", _time(origin.get("start"))),
        ("took", _duration(origin.get("start"), origin.get("end"))),
    ]
    return pairs_table("run", "Command, folds, seeds and times.", [row for row in rows if row[1]])


def encoders(evaluation: Evaluation) -> Table | None:
    """Where each encoder comes from; None where the evaluation does not tell."""
    if not evaluation.origins:
        return None
    rows = []
    for name, origin in evaluation.origins.items():
        size = f"{origin['size']} px" if "size" in origin else NO_VALUE
        told = [str(origin.get(key, NO_VALUE)) for key in ("method", "timm_name")]
        fingerprint = str(origin.get("encoder_fingerprint", NO_VALUE))[:_SHORT]
        seen = str(origin.get("seen_in_pretraining", "unknown"))
        rows.append([Field(text) for text in (name, *told, size, _read_from(origin), seen, fingerprint)])
    columns = [
        "encoder",
        "method",
        "backbone",
        "input",
        "read from",
        "evaluated cells seen in pre-training",
        "fingerprint",
    ]
    tuned = any(head == FINETUNED and encoder in evaluation.origins for encoder, head in evaluation.pairs)
    caption = "The encoders, as they were before fine-tuning." if tuned else "The frozen encoders."
    return Table("encoders", caption, columns, [Group("", rows)], text_columns=len(columns))


def _read_from(origin: Mapping[str, Any]) -> str:
    """What features were read from, as :class:`~leukoscope.encoders.readout.Readout` has it."""
    stages = "the output" if origin.get("stages", 1) == 1 else f"{origin['stages']} stages"
    return f"{stages}, mean of 8 flips and turns" if origin.get("flips") else stages


def cells(evaluation: Evaluation, cellset: CellSet | None, audit: Mapping[str, Any] | None) -> dict[str, Any]:
    """The evaluated cells: counts by class, fingerprints, and what the audit found."""
    return {
        "classes": _class_table(evaluation),
        "set": _set_table(evaluation, cellset),
        "audit": _audit_table(audit),
        "audited": audit is not None,
    }


def provenance_of(run: Path) -> dict[str, Any]:
    """What :func:`provenance` gives of a run folder, from its ``provenance.json`` and ``recipe.yaml``."""
    return provenance(read_json(run / "provenance.json"), read_yaml(run / "recipe.yaml"))


def provenance(origin: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Versions and hardware from what ``provenance.json`` holds, and the recipe as resolved."""
    versions = dict(origin.get("versions", {}))
    hardware = origin.get("hardware", {})
    rows = [
        ("code", str(origin.get("git_commit") or "not under version control")),
        ("Python", versions.pop("python", NO_VALUE)),
        ("libraries", ", ".join(f"{name} {number}" for name, number in versions.items())),
        ("machine", ", ".join(f"{name} {value}" for name, value in hardware.items())),
    ]
    if "peak_memory_mib" in origin:
        rows.append(("peak memory", f"{origin['peak_memory_mib']:,} MiB"))
    settings = yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True) if recipe else ""
    return {"table": pairs_table("provenance", "Code, libraries and machine.", rows), "recipe": settings}


def _class_table(evaluation: Evaluation) -> Table:
    counts = evaluation.class_counts
    total = max(sum(counts.values()), 1)
    rows = [[Field(name), Field(f"{count:,}"), Field(f"{100 * count / total:.1f}")] for name, count in counts.items()]
    rows.append([Field("all"), Field(f"{total:,}"), Field("100.0")])
    return Table("classes", "Evaluated cells of each class.", ["class", "cells", "share, %"], [Group("", rows)])


def _set_table(evaluation: Evaluation, cellset: CellSet | None) -> Table:
    rows = []
    if cellset is not None:
        info = cellset.info
        rows = [
            ("set", cellset.path.name),
            ("pixels", f"{info.height} × {info.width}, {info.dtype}, {info.bit_depth} bit used"),
            ("channels", ", ".join(info.channels)),
            ("pixel size", f"{info.pixel_size_um:.3g} µm" if info.pixel_size_um else "not given"),
            ("intensity rule", info.intensity.rule.replace("_", " ")),
        ]
    rows += _fingerprints(evaluation)
    return pairs_table("set", "Where the cells come from.", rows or [("set", "not recorded")])


def _fingerprints(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Fingerprints of the evaluated pixels and their table: once, where all features were made of the same."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, value in evaluation.provenance.get("fingerprints", {}).items():
        encoder, _, kind = name.rpartition(".")
        if kind != "encoder":
            found.setdefault((kind, value), []).append(encoder)
    kinds = [kind for kind, _ in found]
    return [
        (f"fingerprint of {kind}" if kinds.count(kind) == 1 else f"fingerprint of {kind} ({', '.join(names)})", value)
        for (kind, value), names in found.items()
    ]


def _audit_table(audit: Mapping[str, Any] | None) -> Table | None:
    if not audit or not audit.get("findings"):
        return None
    verdict = "spoils the evaluation" if audit.get("spoiled") else "finds nothing that would spoil the evaluation"
    findings = sorted(audit.get("findings", []), key=lambda finding: _SEVERITIES.index(finding["severity"]))
    names = ("name", "severity", "where", "detail")
    rows = [[Field(str(found[name])) for name in names] + [Field(f"{found['cells']:,}")] for found in findings]
    columns = ["finding", "weight", "where", "what", "cells"]
    return Table("audit", f"The audit {verdict}.", columns, [Group("", rows)], text_columns=4)


def _n_folds(evaluation: Evaluation) -> tuple[int, int]:
    rows = evaluation.predictions
    return int(rows["fold"].nunique()), int(rows["repeat"].nunique())


def _channels(names: tuple[str, ...]) -> str:
    return "1 channel" if len(names) == 1 else f"{len(names)} channels"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _time(value: str | None) -> str:
    return datetime.fromisoformat(value).strftime("%Y-%m-%d %H:%M UTC") if value else ""


def _duration(start: str | None, end: str | None) -> str:
    if not start or not end:
        return ""
    seconds = round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
