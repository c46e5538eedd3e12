from collections.abc import Callable
from typing import Any

from leukoscope.common.runs import log
from leukoscope.probes.trainer import Told


class Diary:
    """Writes down every epoch of several fits: rows ``fit, stage, epoch, lr, loss, accuracy, validation_...``.

    Fits of model selection are called ``trial 1`` and so on, until ``fit`` is given another name.

    Args:
        advance: of the progress shown.
    """

    def __init__(self, advance: Callable[..., None]) -> None:
        self.advance = advance
        self.fit: str | None = None
        self.rows: list[dict[str, Any]] = []
        self._trials = 0

    def note(self, told: Told) -> None:
        """Write down an epoch."""
        self._trials += told["epoch"] == 1
        fit = self.fit or f"trial {self._trials}"
        self.rows.append({"fit": fit, **told})
        shown = ", ".join(f"{key} {value:.4g}" for key, value in told.items() if isinstance(value, float))
        log.info("%s, %s, epoch %s: %s", fit, told["stage"], told["epoch"], shown)
        self.advance(1, note=f"{fit}, loss {told['loss']:.3f}")
