from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from leukoscope.common.errors import InputError
from leukoscope.report.cohort import Cohort


@dataclass(frozen=True)
class Attention:
    """How much a model of patients looked at their cells: ``of_cell``, float64 by ``cell_id``.

    It is the attention to the class that the cell's patient was called, averaged over seeds, by a model that had not
    seen the patient, as a multiple of an even share: 1 where all cells of the patient were alike.
    """

    encoder: str
    head: str
    of_cell: pd.Series

    @classmethod
    def read(cls, run: Path, *, head: str | None = None) -> "Attention":
        """Read what ``leukoscope mil`` left in the run folder ``run``.

        Args:
            run: the run folder.
            head: the model, as HEAD or ENCODER/HEAD; by default the first that has attention.

        Raises:
            InputError: when ``run`` is no such folder, or the model left no attention there.
        """
        if not (run / "attention.parquet").is_file():
            raise InputError(
                f"--attention {run}: no attention.parquet there; give a run of 'leukoscope mil' whose models have it"
            )
        cohort = Cohort.open(run)
        models = cohort.attention[["encoder", "head"]].drop_duplicates()
        pairs = [(str(encoder), str(name)) for encoder, name in models.itertuples(index=False)]
        chosen = [(encoder, name) for encoder, name in pairs if head in (None, name, f"{encoder}/{name}")]
        if not chosen:
            known = ", ".join(f"{encoder}/{name}" for encoder, name in pairs)
            raise InputError(f"--attention-head {head}: no model of {run} that has attention; choose from {known}")
        called = cohort.evaluation.of_cells(chosen[0]).set_index("cell_id")["predicted"]
        table = cohort.looked(chosen[0], called)
        return cls(*chosen[0], table.groupby("cell_id")["attention"].mean())

    def of(self, cell_ids: pd.Series) -> np.ndarray:
        """The attention of each cell ``(N,)`` float64, NaN for those that the model has not looked at."""
        found: np.ndarray = self.of_cell.reindex(cell_ids).to_numpy(np.float64)
        return found
