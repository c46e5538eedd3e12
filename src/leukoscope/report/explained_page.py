from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leukoscope.common.runs import RunFolder
from leukoscope.encoders.bundle import Encoder
from leukoscope.report import context
from leukoscope.report.cellgrid import ShownCells
from leukoscope.report.subject import Section, Subject
from leukoscope.report.tables import NO_VALUE, Field, Group, Table
from leukoscope.report.template import write_page

_PARTS = (
    (
        "gradcam",
        "Where the evidence lies",
        "Grad-CAM: heat is where a change of the network's maps would most raise what is asked for, the class "
        "predicted or the likeness to a reference. It is as coarse as those maps, and it shows what the network "
        "uses, not what a cell is: heat beside the cell means that the network looks at something else.",
    ),
    (
        "attention",
        "What the class token attends to",
        "Attention says where a transformer reads from, not for what, nor whether what it reads changes the answer. "
        "Single bright patches far from the cell are often no finding: large transformers keep notes in such places.",
    ),
    (
        "pca",
        "What the patches have in common",
        "Patches of one colour are alike to the encoder. Where nucleus, cytoplasm, other cells and ground have colours "
        "of their own it tells them apart; where they share one it may still do so in components that are not shown.",
    ),
    (
        "map",
        "Maps of the cells",
        "A map bends many dimensions into two. It can show that groups, batches or patients lie apart; it cannot show "
        "how far, and it can part what is one. What counts is measured on the features: see leukoscope evaluate.",
    ),
)


@dataclass(frozen=True)
class Part:
    """A section of the page under its name, with what the picture is and what it cannot tell."""

    id: str
    name: str
    words: str
    section: Section


def write_explanation(
    run: RunFolder, subject: Subject, sections: Mapping[str, Section], settings: Mapping[str, Any]
) -> None:
    """Write ``report.html`` into the run folder: the sections, what they show and what they cannot tell."""
    cellset = subject.shown.cellset
    parts = [Part(kind, name, words, sections[kind]) for kind, name, words in _PARTS]
    write_page(
        run.path / "report.html",
        "explanation.html.j2",
        title=f"What encoders see: {cellset.path.name.removesuffix('.set')}",
        facts=[("cells", f"{len(cellset):,}"), ("shown", str(len(subject.shown.rows))), context.image_fact(cellset)],
        sections=[("run", "What is shown"), *((part.id, part.name) for part in parts), ("provenance", "Provenance")],
        encoders=_encoder_table(subject.encoders),
        cells=_cell_table(subject.shown),
        parts=parts,
        provenance=context.provenance(run.provenance, settings),
    )


def _encoder_table(encoders: Mapping[str, Encoder]) -> Table:
    columns = ["encoder", "method", "backbone", "input", "fingerprint"]
    rows = []
    for name, encoder in encoders.items():
        info = encoder.info
        texts = (name, info.method, info.timm_name, f"{info.size} px", encoder.fingerprint[:16])
        rows.append([Field(text) for text in texts])
    return Table("encoders", "The encoders.", columns, [Group("", rows)], text_columns=len(columns))


def _cell_table(shown: ShownCells) -> Table:
    columns = ["cell", "class", "source", "cell_id"]
    rows = []
    for number, row in enumerate(shown.cellset.cells.iloc[shown.rows].to_dict("records"), start=1):
        beginning = str(row["cell_id"])[:16]
        rows.append([Field(text) for text in (str(number), row["label"] or NO_VALUE, str(row["source"]), beginning)])
    return Table("cells", "The cells shown.", columns, [Group("", rows)], text_columns=len(columns))
