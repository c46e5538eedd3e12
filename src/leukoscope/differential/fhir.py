"""The differential as an HL7 FHIR R4 bundle: a DiagnosticReport and an Observation for each class."""

import uuid
from typing import Any

from leukoscope.differential.leukocytes import CellKind, kind_of
from leukoscope.differential.ranges import UNITS, ReferenceRanges, Unit

_LOINC = "http://loinc.org"
_UNITS_OF_MEASURE = "http://unitsofmeasure.org"
_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_CODES = {"none": ("N", "Normal"), "low": ("L", "Low"), "high": ("H", "High")}
_PANEL = ("69738-3", "Differential panel, method unspecified - Blood")
_SPACE = uuid.UUID("6f1c2a5e-3b4d-5c6e-8f70-918273645546")
_QUANTITIES: dict[Unit, tuple[str, str]] = {"percent": ("%", "%"), "absolute": ("10*9/L", "10*9/L")}


def fhir_bundle(
    differential: dict[str, Any], fingerprint: str, issued: str, *, ranges: ReferenceRanges | None = None
) -> dict[str, Any]:
    """The count as a FHIR R4 Bundle of type ``collection``.

    Shares are of the leukocytes, corrected, in per cent; with a total, absolute counts in 10^9/L follow. The 95 %
    interval for the patient stands in two components, as FHIR has no element for it. ``interpretation`` is of the value
    alone, as its codes are defined; where a value lies outside its range and the interval reaches back into it, a note
    says so. A class that alone is a known kind of cell carries LOINC's code, others their name alone; those that are no
    leukocytes are left out. The report is ``preliminary``: nobody has signed it.

    Args:
        differential: what ``classify`` leaves in ``differential.json``.
        fingerprint: of this very count, from which the resources have their identifiers.
        issued: when it was made, ISO 8601 with a time zone.
        ranges: reference ranges to print beside the counts.
    """
    # Two classes of one kind, such as two sorts of blasts, are parts of what its code means.
    meant = {name: kind_of(name) for name in differential["classes"]}
    kinds = {name: kind if list(meant.values()).count(kind) == 1 else None for name, kind in meant.items()}
    observations = [
        _observation(name, row[told.key], unit, fingerprint, issued, ranges, row["flags"], kinds[name])
        for name, row in differential["classes"].items()
        for unit, told in UNITS.items()
        if row[told.key] is not None
    ]
    report = {
        "resourceType": "DiagnosticReport",
        "status": "preliminary",
        "category": [{"text": "Haematology"}],
        "code": {"coding": [{"system": _LOINC, "code": _PANEL[0], "display": _PANEL[1]}], "text": "Differential"},
        "issued": issued,
        "result": [{"reference": address, "display": resource["code"]["text"]} for address, resource in observations],
        "conclusion": (
            f"{differential['n']} cells counted by an image classifier and corrected for its confusions; for research "
            "use only, not reviewed or signed."
        ),
    }
    resources = [(_address(fingerprint, "report"), report), *observations]
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": issued,
        "entry": [{"fullUrl": address, "resource": resource} for address, resource in resources],
    }


def _observation(
    name: str,
    share: dict[str, float],
    unit: Unit,
    fingerprint: str,
    issued: str,
    ranges: ReferenceRanges | None,
    flags: list[dict[str, Any]],
    kind: CellKind | None,
) -> tuple[str, dict[str, Any]]:
    scale = UNITS[unit].scale
    limits = None if ranges is None else ranges.of(name, unit)
    flag = next((each for each in flags if each["unit"] == unit), None)
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "status": "preliminary",
        "code": _code(name, kind, unit),
        "issued": issued,
        "valueQuantity": _quantity(scale * share["value"], unit),
        "component": [
            {"code": {"text": f"95 % interval, {end}"}, "valueQuantity": _quantity(scale * share[end], unit)}
            for end in ("low", "high")
        ],
    }
    if limits is not None:
        resource["referenceRange"] = [{"low": _quantity(limits.low, unit), "high": _quantity(limits.high, unit)}]
        code, display = _CODES[flag["flag"] if flag else "none"]
        resource["interpretation"] = [{"coding": [{"system": _INTERPRETATION, "code": code, "display": display}]}]
        if flag and not flag["certain"]:
            text = f"{display}, not certainly: the 95 % interval reaches into the reference range."
            resource["note"] = [{"text": text}]
    return _address(fingerprint, f"{unit}:{name}"), resource


def _code(name: str, kind: CellKind | None, unit: Unit) -> dict[str, Any]:
    """LOINC's code is of the share among leukocytes; absolute counts go by their name."""
    if kind is None or kind.loinc is None or unit == "absolute":
        return {"text": name if unit == "percent" else f"{name}, absolute"}
    return {"coding": [{"system": _LOINC, "code": kind.loinc, "display": kind.display}], "text": name}


def _quantity(value: float, unit: Unit) -> dict[str, Any]:
    shown, code = _QUANTITIES[unit]
    return {"value": round(value, 3), "unit": shown, "system": _UNITS_OF_MEASURE, "code": code}


def _address(fingerprint: str, what: str) -> str:
    return f"urn:uuid:{uuid.uuid5(_SPACE, f'{fingerprint}:{what}')}"
