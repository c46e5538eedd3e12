from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from pydantic import Field, field_validator, model_validator

from leukoscope.cells.composition import Compositions
from leukoscope.cells.folds import split
from leukoscope.cells.groups import resolve_group
from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings, read_yaml


class CohortPlan(Settings):
    """What patients are made of: per cents of the kinds in the column ``label``, and what each type changes of them."""

    label: str = "label"
    reference: dict[str, tuple[float, float]] = Field(min_length=1)
    types: dict[str, dict[str, tuple[float, float]]] = Field(min_length=1)

    @field_validator("reference")
    @classmethod
    def _ranges(cls, ranges: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        return checked(ranges)

    @field_validator("types")
    @classmethod
    def _ranges_of_types(
        cls, types: dict[str, dict[str, tuple[float, float]]]
    ) -> dict[str, dict[str, tuple[float, float]]]:
        for ranges in types.values():
            checked(ranges)
        return types

    @model_validator(mode="after")
    def _sums_to_a_hundred(self) -> "CohortPlan":
        for name, changed in {"reference": {}, **self.types}.items():
            low, high = np.array(list({**self.reference, **changed}.values())).T
            if not low.sum() < 100 < high.sum():
                raise ValueError(
                    f"{name}: its kinds have {low.sum():g} to {high.sum():g} per cent in all; let 100 lie between"
                )
        return self


def checked(ranges: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """``ranges``, where each goes from a lower to a higher per cent."""
    for kind, (low, high) in ranges.items():
        if not 0 <= low < high <= 100:
            raise ValueError(f"give the lowest and the highest per cent of {kind!r}, from 0 to 100")
    return ranges


def plan_names() -> list[str]:
    """The plans that come with Leukoscope."""
    return sorted(Path(entry.name).stem for entry in files(__package__).iterdir() if entry.name.endswith(".yaml"))


def read_plan(name: str) -> CohortPlan:
    """The plan of that name, or of that file.

    Raises:
        InputError: when there is none, or it is at fault.
    """
    if name in plan_names():
        text = (files(__package__) / f"{name}.yaml").read_text(encoding="utf-8")
        return CohortPlan.parse(yaml.safe_load(text), where=f"plan {name}")
    if not Path(name).is_file():
        raise InputError(f"--plan {name}: no such file, nor one of {', '.join(plan_names())}")
    return CohortPlan.parse(read_yaml(Path(name)), where=name)


def draw_cells(
    cells: pd.DataFrame,
    labels: np.ndarray,
    plan: CohortPlan,
    *,
    composition: Sequence[str],
    patients: int,
    size: tuple[int, int],
    pools: int,
    reuse: bool,
    seed: int,
) -> list[tuple[str, np.ndarray]]:
    """The type of each patient, and its cells as rows of the table.

    The cells are dealt into ``pools`` first, stratified by kind, and those that belong together into one. A patient
    takes its cells from one pool; types take turns, in every pool alike.

    Raises:
        InputError: when a type is unknown, kinds have no cells, or a pool runs out of one.
    """
    compositions = Compositions(plan.reference, plan.types)
    kinds = sorted({str(label) for label in labels if label is not None})
    types = [compositions.parse(text, kinds) for text in composition or plan.types]
    for chosen in types:
        missing = [kind for kind in compositions.kinds(chosen) if kind not in kinds]
        if missing:
            raise InputError(f"{chosen.name}: no cell is of kind {missing[0]!r}; there are {', '.join(kinds)}")
    if patients < pools * len(types):
        raise InputError(
            f"{patients} patients cannot have {len(types)} types in each of {pools} pools; ask for {pools * len(types)}"
        )
    shares = {str(pool): 1 / pools for pool in range(pools)}
    pool_of = split(cells, labels, shares, group=resolve_group(cells, None), seed=seed).to_numpy()
    rng = np.random.default_rng(seed)
    left = {
        (pool, kind): rng.permutation(np.flatnonzero((pool_of == pool) & (labels == kind)))
        for pool in shares
        for kind in kinds
    }
    drawn = []
    for number in range(patients):
        pool = str(number % pools)
        name, amounts = compositions.draw(types[number // pools % len(types)], rng)
        own = {kind: left[pool, kind] for kind in amounts if (pool, kind) in left}
        counts = _counts(amounts, int(rng.integers(size[0], size[1] + 1)), rng)
        rows = []
        for kind, count in counts.items():
            there = own.get(kind, np.array([], dtype=np.int64))
            if count > len(there):
                more = "" if reuse else ", or --reuse cells for several patients of a pool"
                raise InputError(
                    f"pool {pool} has {len(there)} more cells of {kind!r}, its next patient ({name}) needs {count}; "
                    f"ask for fewer patients, cells a patient or pools{more}"
                )
            rows.append(rng.choice(there, count, replace=False) if reuse else there[:count])
            if not reuse:
                left[pool, kind] = there[count:]
        drawn.append((name, np.concatenate(rows)))
    return drawn


def _counts(amounts: Mapping[str, float], cells: int, rng: np.random.Generator) -> dict[str, int]:
    """How many cells of each kind a sample of ``cells`` holds, by chance."""
    shares = np.array(list(amounts.values()))
    return dict(zip(amounts, map(int, rng.multinomial(cells, shares / shares.sum())), strict=True))
