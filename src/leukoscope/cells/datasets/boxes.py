from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import pandas as pd
from pydantic import Field

from leukoscope.cells.datasets.listing import Download, Listed, Listing, some

# The corners of a box: left, top, right, bottom.
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Voc(Listed):
    """Fields of view with boxes in the XML of Pascal VOC, one file a field; each box becomes a crop around its centre.

    Attributes:
        images: folder of the fields.
        boxes: folder of the XML files, which are called as their fields are.
        parts: name of a split to the file that lists its fields, one a line without suffix.
    """

    kind: Literal["voc"] = "voc"
    images: str
    boxes: str
    parts: dict[str, str] = Field(default_factory=dict)

    def listing(self, copy: Download) -> Listing:
        """One row a box, in the order of the files and of the boxes in them."""
        fields = copy.fields(self.images)
        rows: list[dict[str, Any]] = []
        broken = []
        for path in sorted((copy.root / self.boxes).glob("*.xml")):
            try:
                found = list(_boxes(ElementTree.parse(path)))
            except (ElementTree.ParseError, OSError, ValueError):
                broken.append(path.name)
                continue
            field = fields.get(path.stem, f"{self.images}/{path.stem}")
            rows.extend({"path": field, "_stem": path.stem, **box} for box in found)
        table, lines = centred(pd.DataFrame(rows, columns=["path", "_stem", "label", *CORNERS]), first=1.0)
        if self.parts:
            table["split"] = table["_stem"].map(_split_of(copy.root, self.parts))
        lost = some(broken, "files of boxes cannot be read")
        return Listing(table.drop(columns="_stem"), left_out=(*lines, *lost))


def centred(table: pd.DataFrame, *, first: float) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table of corners as one of centres ``x``, ``y`` and sides ``box_width``, ``box_height``, in pixels.

    ``first`` is what the corners call the middle of the first pixel, which is 0 in ``x`` and ``y``. Boxes without an
    area show where somebody clicked, not a cell; they are left out, and counted in a line.
    """
    corners = table[list(CORNERS)].astype(float)
    sides = corners[["xmax", "ymax"]].to_numpy() - corners[["xmin", "ymin"]].to_numpy()
    middles = (corners[["xmax", "ymax"]].to_numpy() + corners[["xmin", "ymin"]].to_numpy()) / 2 - first
    placed = table.drop(columns=list(CORNERS)).assign(
        x=middles[:, 0], y=middles[:, 1], box_width=sides[:, 0], box_height=sides[:, 1]
    )
    flat = ~(sides > 0).all(axis=1)
    return placed[~flat].reset_index(drop=True), some(list(table["path"][flat]), "boxes without an area")


def _boxes(tree: "ElementTree.ElementTree[Any]") -> Iterator[dict[str, Any]]:
    for element in tree.iter("object"):
        corners = [element.findtext(f"bndbox/{name}") for name in CORNERS]
        if None in corners:
            raise ValueError("a box lacks a corner")
        yield {"label": element.findtext("name"), **dict(zip(CORNERS, map(float, filter(None, corners)), strict=True))}


def _split_of(root: Path, parts: dict[str, str]) -> dict[str, str]:
    files = {part: root / name for part, name in parts.items()}
    return {
        stem: part
        for part, path in files.items()
        if path.is_file()
        for stem in path.read_text(encoding="utf-8", errors="replace").split()
    }
