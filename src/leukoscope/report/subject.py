from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from leukoscope.encoders.bundle import Encoder
from leukoscope.report.cellgrid import ShownCells
from leukoscope.report.drawing import Picture


@dataclass(frozen=True)
class Subject:
    """What is explained: encoders by name, the cells that are shown, and the run folder ``path``."""

    encoders: Mapping[str, Encoder]
    shown: ShownCells
    path: Path
    device: str

    @property
    def figures(self) -> Path:
        """Where figures are kept."""
        return self.path / "figures"

    def keep_array(self, name: str, values: np.ndarray) -> None:
        """Keep ``values``, one entry a shown cell, as ``arrays/<name>.npy``."""
        (self.path / "arrays").mkdir(exist_ok=True)
        np.save(self.path / "arrays" / f"{name}.npy", values)

    def keep_table(self, name: str, table: pd.DataFrame) -> None:
        """Keep ``table`` as ``tables/<name>.csv``."""
        (self.path / "tables").mkdir(exist_ok=True)
        table.to_csv(self.path / "tables" / f"{name}.csv", index=False)


@dataclass(frozen=True)
class Section:
    """A section of the page: its figures, and in one line each what could not be drawn."""

    pictures: list[Picture] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
