from collections.abc import Sequence

import pandas as pd

from leukoscope.common.errors import InputError


def agreed(table: pd.DataFrame, experts: Sequence[str], least: int, *, where: str, pattern: str) -> pd.DataFrame:
    """Keep the rows that at least ``least`` experts labelled, all of them alike; set ``label`` and ``n_experts``.

    The rule of "Supervised contrastive learning for hairy cells", section 4.1.2: one expert or more for training, two
    or more for a test set. The experts' own columns are kept.

    Args:
        table: one row a cell.
        experts: columns that hold one expert's label each, empty where that expert gave none.
        least: how many experts are needed.
        where: what the messages call the table.
        pattern: the pattern that found ``experts``, for the messages.

    Raises:
        InputError: when there are too few experts' columns, no row is left, or the table has a label of its own.
    """
    if len(experts) < least:
        raise InputError(
            f"{where}: --agree {least} needs as many columns named {pattern}, found {len(experts)}; "
            "name them with --experts 'PATTERN'"
        )
    if "label" in table.columns and "label" not in experts:
        raise InputError(f"{where}: --agree sets the column label, which is there already; give --column given=label")
    opinions = table[list(experts)].map(lambda value: None if pd.isna(value) else str(value).strip() or None)
    count = opinions.notna().sum(axis=1)
    kept = (count >= least) & (opinions.nunique(axis=1) == 1)
    if not kept.any():
        raise InputError(f"{where}: --agree {least}: no row has {least} experts that agree")
    first = opinions.bfill(axis=1).iloc[:, 0]
    return table.assign(label=first, n_experts=count)[kept].reset_index(drop=True)
