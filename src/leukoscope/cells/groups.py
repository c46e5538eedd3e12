import pandas as pd

from leukoscope.common.errors import InputError
from leukoscope.common.runs import log

NO_GROUP = "none"
_GROUPS = ("patient", "slide")


def resolve_group(cells: pd.DataFrame, group: str | None) -> str | None:
    """The column that holds cells together: as asked, else ``patient``, else ``slide``, else None; it is logged.

    Raises:
        InputError: when the column asked for is missing.
    """
    if group == NO_GROUP:
        return None
    if group is not None:
        if group not in cells.columns:
            raise InputError(f"--group {group}: no such column; the table has {', '.join(cells.columns)}")
        return group
    for name in _GROUPS:
        if name in cells.columns and cells[name].notna().any():
            log.info("the cells of one %s are kept together (--group none turns it off)", name)
            return name
    log.info("no patient or slide is known: cells are taken one by one")
    return None
