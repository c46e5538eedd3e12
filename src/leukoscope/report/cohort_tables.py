from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from leukoscope.report.cohort import Cohort
from leukoscope.report.tables import NO_VALUE, Field, Group, Table, metric_name, number, p_value

METRICS = ("f1_macro", "roc_auc_macro", "pr_auc_macro", "balanced_accuracy")
_BETWEEN = {"folds": "trained on other patients", "seeds": "begun from other weights"}


def runs_table(cohort: Cohort) -> Table:
    """Table 1 of aml-ssl-mil: mean and standard deviation over all folds and seeds."""
    rows = []
    for encoder, head in cohort.evaluation.ranked():
        found = cohort.results["runs"][encoder][head]
        spread = [Field(f"{_short(found[name]['mean'])} ± {_short(found[name]['sd'])}") for name in METRICS]
        rows.append([Field(encoder), Field(head), *spread, Field(str(found[METRICS[0]]["runs"]))])
    return Table(
        "runs",
        "Mean and standard deviation over folds and seeds, each scored by itself.",
        ["encoder", "model", *map(metric_name, METRICS), "runs"],
        [Group("", rows)],
        text_columns=2,
        note="Runs share patients: the standard deviation says how single runs scatter, not how sure the mean is.",
    )


def _short(value: float | None, form: str = ".2f") -> str:
    return NO_VALUE if value is None else format(value, form)


def patients_table(cohort: Cohort, *, linked: bool) -> Table:
    """Every patient: what it has, what it was called by the best model, and its page; wrong answers first."""
    sizes: dict[Hashable, int] = {}
    if len(cohort.attention):
        sizes = cohort.attention.drop_duplicates("cell_id")["bag"].value_counts().to_dict()
    groups = []
    said = cohort.patients
    for title, own in (
        ("Called wrongly", said[said["predicted"] != said["label"]]),
        ("Called rightly", said[said["predicted"] == said["label"]]),
    ):
        rows = [
            [
                Field(str(row["patient"]), href=cohort.pages[row["patient"]] if linked else ""),
                Field(row["label"]),
                Field(row["predicted"]),
                Field(f"{row['probability']:.2f}", value=float(row["probability"])),
                Field(f"{sizes[row['patient']]:,}" if row["patient"] in sizes else NO_VALUE),
                Field(str(row["fold"] + 1)),
            ]
            for row in own.to_dict("records")
        ]
        if rows:
            groups.append(Group(f"{title}: {len(rows)}", rows))
    return Table(
        "patients",
        f"Patients, as {' '.join(cohort.leaders[0])} called them when they were tested (mean over seeds).",
        ["patient", "class", "called", "probability", "cells", "fold"],
        groups,
        text_columns=3,
    )


def kinds_table(cohort: Cohort) -> Table | None:
    """Attention by kind of cell, with enrichment among the top tenth and the test; None where no kind is known."""
    found = cohort.results["reading"].get("kinds")
    if not found:
        return None
    table = pd.DataFrame(found)
    groups = []
    for pair in cohort.leaders:
        own = table[(table["encoder"] == pair[0]) & (table["head"] == pair[1])]
        for diagnosis, rows in own.groupby("diagnosis"):
            fields = [_kind_row(row) for row in rows.sort_values("attention", ascending=False).to_dict("records")]
            groups.append(Group(f"{' '.join(pair)}, patients of class {diagnosis}", fields))
    return Table(
        "kinds",
        "Attention of each kind of cell to its patient's own class, as a multiple of an even share.",
        ["kind", "patients", "cells", "attention", "share of cells", "share of top tenth", "enrichment", "p"],
        groups,
        note="Mean over patients ± standard deviation. Enrichment: the share among the tenth of a patient's cells with "
        "most attention over that among all. p: Wilcoxon's signed-rank test over patients that these cells get as much "
        "as the patient's others, after Holm.",
    )


def _kind_row(row: Mapping[Hashable, Any]) -> list[Field]:
    return [
        Field(str(row["kind"])),
        Field(f"{row['patients']:,}"),
        Field(f"{row['cells']:,}"),
        Field(f"{row['attention']:.2f}", f"± {number(row['sd'])}", value=row["attention"]),
        Field(_short(row["share"], ".1%")),
        Field(_short(row["top_share"], ".1%")),
        Field(_short(row["enrichment"])),
        Field(p_value(row["p_corrected"])),
    ]


def removal_table(cohort: Cohort) -> Table | None:
    """What answers lose without the cells of most attention and without random ones; None without attention."""
    found = cohort.results["reading"].get("removal")
    if not found:
        return None
    rows = [
        [
            Field(row["encoder"]),
            Field(row["head"]),
            Field(f"{row['loss_top']:+.3f}"),
            Field(f"{row['loss_random']:+.3f}"),
            Field(f"{100 * row['changed_top']:.1f} %"),
            Field(f"{100 * row['changed_random']:.1f} %"),
            Field(p_value(row["p"])),
        ]
        for row in found
    ]
    share = cohort.evaluation.recipe.get("settings", {}).get("removal", {}).get("share", 0.1)
    return Table(
        "removal",
        f"What is lost of the probability of the class that was called, and how often another is called, without the "
        f"{100 * share:.0f} % of a patient's cells with most attention, and without as many random ones.",
        ["encoder", "model", "lost, top", "lost, random", "changed, top", "changed, random", "p"],
        [Group("", rows)],
        text_columns=2,
        note="p: Wilcoxon's signed-rank test over patients that both lose alike. Attention that does not carry the "
        "answer shows here, however convincing its gallery looks.",
    )


def stability_table(cohort: Cohort) -> Table | None:
    """How alike models rank the cells of a patient; None without attention or with one model."""
    found = cohort.results["reading"].get("stability")
    if not found:
        return None
    rows = [
        [
            Field(row["encoder"]),
            Field(row["head"]),
            Field(_BETWEEN[row["between"]]),
            Field(f"{row['spearman']:.2f}"),
            Field(f"{100 * row['overlap']:.0f} %"),
        ]
        for row in found
    ]
    return Table(
        "stability",
        "Whether two models rank the cells of a patient alike: Spearman's correlation, and the share of the top tenth "
        "that both have in theirs (10 % by chance); means over pairs of models, patients and classes.",
        ["encoder", "model", "models that were", "rank correlation", "same top tenth"],
        [Group("", rows)],
        text_columns=3,
    )
