from typing import Any, Literal

import pandas as pd

from leukoscope.cells.datasets.listing import Download, Listed, Listing, some


class Points(Listed):
    """Fields of view with one text file each: a line ``x y class`` a cell, in pixels, separated by blanks.

    Attributes:
        images: folder of the fields.
        points: folder of the text files, which are called as their fields are.
    """

    kind: Literal["points"] = "points"
    images: str
    points: str

    def listing(self, copy: Download) -> Listing:
        """One row a line; fields without a text file are named among the images that the layout does not use."""
        fields = copy.fields(self.images)
        rows: list[dict[str, Any]] = []
        broken = []
        for path in sorted((copy.root / self.points).glob("*.txt"), key=lambda path: (len(path.stem), path.stem)):
            field = fields.get(path.stem, f"{self.images}/{path.stem}")
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if not line.strip():
                    continue
                try:
                    x, y, code = line.split()
                    rows.append({"path": field, "x": float(x), "y": float(y), "label": code})
                except ValueError:
                    broken.append(f"{path.name}, line {number}")
        return Listing(pd.DataFrame(rows), left_out=some(broken, "lines are not 'x y class'"))
