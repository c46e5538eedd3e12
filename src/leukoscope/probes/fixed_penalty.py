from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from leukoscope.common.settings import Settings
from leukoscope.probes.head import Data, Fitted, Job
from leukoscope.probes.linear import LinearProbe


class FixedPenaltyProbe(Settings):
    """DinoBloom's linear probe: logistic regression on features as they come, its penalty fixed by counts.

    The penalty is ``l / 2 |W|^2`` beside the sum of the losses, the intercept free, and ``C`` is ``1 / l``. For n
    training cells of K classes and D features:

    - ``text``: ``l = K n / 100``, "l2-regularization coefficient of c x n / 100 where n is the number of training
      samples, and c is the number of classes" (Koch et al. 2024, section 3);
    - ``code``: ``l = 100 / (D K)``, as the authors' ``train_and_evaluate_logistic_regression`` computes it.

    The two are far apart: with 384 features, 11 classes and 10,000 cells l is 1,100 by the one and 0.024 by the other.
    """

    rule: Literal["text", "code"]
    tolerance: float = Field(default=1e-3, gt=0)
    max_iterations: int = Field(default=1000, gt=0)

    @property
    def seeded(self) -> bool:
        """The problem is convex: no seed changes the head."""
        return False

    def fit(self, data: Data, jobs: Sequence[Job]) -> list[Fitted]:
        """Solve all jobs; nothing is chosen."""
        probe = LinearProbe(standardise=False, tolerance=self.tolerance, max_iterations=self.max_iterations)
        training = [job.training.rows for job in jobs]
        strengths = [1 / self._penalty(data, len(rows), _classes(data, rows)) for rows in training]
        heads = probe.solve(data, training, [(c,) for c in strengths])
        return [Fitted(head, {"C": c}, []) for (head,), c in zip(heads, strengths, strict=True)]

    def _penalty(self, data: Data, n_cells: int, n_classes: int) -> float:
        return n_classes * n_cells / 100 if self.rule == "text" else 100 / (data.x.shape[1] * n_classes)


def _classes(data: Data, rows: np.ndarray) -> int:
    return len(torch.unique(data.y[data.rows(rows)]))
