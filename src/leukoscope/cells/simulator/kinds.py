from dataclasses import dataclass

from leukoscope.common.errors import InputError


@dataclass(frozen=True)
class Kind:
    """What a kind of cell looks like on average, in suspension and unstained.

    Sizes are in micrometres. Refractive indices are differences: ``cytoplasm`` to the medium, ``nucleus`` to the
    cytoplasm, granules and chromatin clumps to what surrounds them (their peak phase in radians). ``spread`` holds
    the relative standard deviation of the traits between the cells of one donor.
    """

    name: str
    diameter_um: float
    elongation: float
    roughness: float
    nucleus_ratio: float
    lobes: float
    lobe_spread: float
    granules: float
    granule_um: float
    granule_phase: float
    chromatin_phase: float
    cytoplasm_index: float
    nucleus_index: float
    spread: float = 0.08


# Typical magnitudes, as haematology textbooks and the suppliers of the cell lines describe these cells; diameters are
# those of living cells in suspension, smaller than on a smear. No image of a real cell was fitted.
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        # name, diameter, elongation, roughness, nucleus, lobes, spread, granules: count, um, phase; chromatin; indices
        Kind("BAS", 8.8, 1.06, 0.020, 0.66, 2.2, 0.40, 26, 0.42, 0.75, 0.16, 0.032, 0.008),
        Kind("EOS", 9.9, 1.07, 0.020, 0.58, 2.1, 0.75, 70, 0.36, 0.62, 0.18, 0.034, 0.013),
        Kind("LYM", 7.6, 1.05, 0.014, 0.82, 1.0, 0.00, 5, 0.26, 0.30, 0.22, 0.035, 0.015, 0.10),
        Kind("MON", 11.2, 1.10, 0.034, 0.66, 2.0, 0.45, 22, 0.28, 0.32, 0.12, 0.029, 0.010),
        Kind("NEU", 9.6, 1.08, 0.024, 0.56, 3.4, 0.85, 62, 0.24, 0.42, 0.20, 0.033, 0.015),
        Kind("Jurkat", 11.6, 1.08, 0.022, 0.80, 1.0, 0.00, 10, 0.32, 0.40, 0.24, 0.030, 0.010, 0.10),
        Kind("HL60", 12.4, 1.07, 0.026, 0.74, 1.4, 0.22, 38, 0.28, 0.42, 0.18, 0.031, 0.010, 0.10),
        Kind("K562", 15.6, 1.10, 0.024, 0.70, 1.2, 0.18, 30, 0.40, 0.42, 0.26, 0.029, 0.009, 0.11),
    )
}


def kinds_named(names: tuple[str, ...]) -> tuple[Kind, ...]:
    """The kinds of these names, in this order.

    Raises:
        InputError: when a name is unknown or given twice, or none is given.
    """
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise InputError(f"--classes: unknown kind {unknown[0]!r}; choose from {', '.join(KINDS)}")
    if not names or len(set(names)) != len(names):
        raise InputError(f"--classes: name each kind once, at least one of {', '.join(KINDS)}")
    return tuple(KINDS[name] for name in names)
