from dataclasses import replace

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.intensity import Intensity


def with_contrast(cellset: CellSet, low: float, high: float) -> CellSet:
    """The same cells under an intensity rule that spreads what lies between two percentages of the range."""
    rule = cellset.info.intensity
    spans = [(start, end - start) for start, end in zip(rule.low, rule.high, strict=True)]
    narrowed = Intensity(
        rule=rule.rule,
        low=tuple(start + span * low / 100 for start, span in spans),
        high=tuple(start + span * high / 100 for start, span in spans),
    )
    return replace(cellset, info=cellset.info.model_copy(update={"intensity": narrowed}))
