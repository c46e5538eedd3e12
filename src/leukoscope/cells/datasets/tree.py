import re
from typing import Literal

import pandas as pd
from pydantic import field_validator

from leukoscope.cells.datasets.listing import Download, Listed, Listing
from leukoscope.cells.datasets.tables import Join


class Tree(Listed):
    """Images in folders, one cell each; what their paths tell becomes columns.

    Attributes:
        pattern: regular expression searched in each path, with a named group a column. Groups that begin with ``_``
            serve ``join`` and are no columns. Images that it does not fit are no part of the set.
        join: files with more about the cells.
    """

    kind: Literal["tree"] = "tree"
    pattern: str
    join: tuple[Join, ...] = ()

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, text: str) -> str:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        return text

    def listing(self, copy: Download) -> Listing:
        """One row an image whose path the pattern fits."""
        pattern = re.compile(self.pattern)
        matches = ((source, pattern.search(source)) for source in copy.all_images)
        rows = [{"path": source, **match.groupdict()} for source, match in matches if match]
        table = pd.DataFrame(rows)
        told: list[str] = []
        for join in self.join if rows else ():
            table, lines = join.beside(table, copy.root)
            told += lines
        helpers = [name for name in table.columns if name.startswith("_")]
        return Listing(table.drop(columns=helpers), left_out=tuple(told))
