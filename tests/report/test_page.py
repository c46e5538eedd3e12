import json
import re
from pathlib import Path

import pandas as pd
import pytest

from leukoscope.cells.auditing.finding import Finding
from leukoscope.common.errors import InputError
from leukoscope.report.page import SECTIONS, write_report


def test_every_section_stands_in_the_page(page):
    html = page.read_text(encoding="utf-8")
    for name, _ in SECTIONS:
        assert f'<section id="{name}">' in html
    assert "Not shown" not in html
    assert "For research use only" in html


def test_a_part_without_its_input_says_so_in_one_line(bare_page):
    html = bare_page.read_text(encoding="utf-8")
    absent = re.findall(r'<p class="absent">(Not shown: .*?)</p>', html)
    assert absent == [
        "Not shown: No audit was given.",
        "Not shown: No history of pre-training was given.",
        "Not shown: No features were given.",
        "Not shown: No CellSet was given.",
        "Not shown: Needs encoders, features and a CellSet.",
    ]


def test_groups_of_classes_stand_beside_the_classes(grouped_run, bare_page):
    page = write_report(grouped_run)
    results = json.loads((grouped_run / "results.json").read_text())
    table = _table(page, "group-metrics").set_index(["encoder", "head"])
    for encoder, heads in results["groups"]["scores"].items():
        for head, found in heads.items():
            assert table.loc[(encoder, head), "accuracy"].startswith(f"{found['accuracy']['mean']:.3f}")
            assert (grouped_run / "figures" / f"group-confusion-{encoder}-{head}.svg").is_file()
    assert (_table(page, "per-group")["group"] == "lymphoid").sum() == 3
    html = page.read_text(encoding="utf-8")
    assert "EOS, MON, NEU" in html
    assert 'id="figure-group-confusion"' in html
    assert "Class groups" not in bare_page.read_text(encoding="utf-8")


def test_the_encoders_say_what_their_features_were_read_from(page):
    assert set(_table(page, "encoders")["read from"]) == {"4 stages, mean of 8 flips and turns"}


def test_the_metric_table_says_what_results_json_says(page):
    scores = json.loads((page.parent / "results.json").read_text())["scores"]
    table = _table(page, "metrics")
    names = {"accuracy": "accuracy", "balanced accuracy": "balanced_accuracy", "ROC AUC": "roc_auc_macro", "ECE": "ece"}
    assert len(table) == sum(len(heads) for heads in scores.values())
    for row in table.to_dict("records"):
        for column, metric in names.items():
            found = scores[row["encoder"]][row["head"]][metric]
            text = f"{found['mean']:.3f}{found['low']:.3f}–{found['high']:.3f}"
            assert row[column].replace("≈", "") == text


def test_the_best_of_a_column_is_marked_and_so_is_what_its_interval_overlaps(page):
    html = page.read_text(encoding="utf-8")
    table = html[html.index('<table id="table-metrics"') :]
    rows = re.findall(r"<tr>.*?</tr>", table[: table.index("</table>")], flags=re.S)
    accuracy = {re.findall(r">(\w+)</", row)[1]: row.split('class="number"')[1] for row in rows[1:] if "number" in row}
    assert "<strong>" in accuracy["mlp"]
    assert [name for name, field in accuracy.items() if "<strong>" in field] == ["mlp"]


def test_supervised_networks_stand_in_a_block_of_their_own(page):
    html = page.read_text(encoding="utf-8")
    metrics = html[html.index('id="table-metrics"') :]
    assert metrics.index("random</th>") < metrics.index("Supervised baselines") < metrics.index("resnet18")


def test_figures_are_files_too(page):
    names = {path.name for path in (page.parent / "figures").iterdir()}
    assert {"confusion-moco-mlp.svg", "reliability.svg", "training.svg", "map-moco.png", "cells-bas.png"} <= names


def test_the_same_inputs_give_the_same_page(bare_page):
    before = bare_page.read_bytes()
    assert write_report(bare_page.parent).read_bytes() == before


def test_audit_findings_are_listed_and_a_spoiled_evaluation_is_said_first(bare_page, cellset):
    audit = {
        "spoiled": True,
        "findings": [Finding("duplicates", "spoils", "cells.set", 4, "one image twice").as_dict()],
    }
    html = write_report(bare_page.parent, audit=audit).read_text(encoding="utf-8")
    assert "one image twice" in html
    assert html.index("The audit calls this evaluation spoiled.") < html.index("It is not known which cells")
    write_report(bare_page.parent)


def test_a_cellset_of_other_cells_is_refused_gently(bare_page, make_cells):
    html = write_report(bare_page.parent, cellset=make_cells(channels=3)).read_text(encoding="utf-8")
    assert "Not shown: The CellSet given holds none of the evaluated cells" in html
    write_report(bare_page.parent)


def test_a_folder_that_is_no_evaluation_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"no evaluation \(no results.json\); make one with 'leukoscope evaluate"):
        write_report(tmp_path)


def test_results_of_another_verb_are_named(tmp_path: Path):
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(InputError, match="no evaluation's results; missing: classes, scores, confusion"):
        write_report(tmp_path)


def _table(page: Path, name: str) -> pd.DataFrame:
    html = page.read_text(encoding="utf-8")
    start = html.index(f'<table id="table-{name}"')
    fields = [
        [re.sub("<.*?>", "", field).strip() for field in re.findall(r"<t[hd].*?</t[hd]>", row, flags=re.S)]
        for row in re.findall(r"<tr>.*?</tr>", html[start : html.index("</table>", start)], flags=re.S)
    ]
    return pd.DataFrame(fields[1:], columns=fields[0])
