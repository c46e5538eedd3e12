from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.common.errors import InputError
from leukoscope.common.files import refuse_folder
from leukoscope.common.runs import log, run_folder, run_mark
from leukoscope.differential.posterior import Posterior, posterior_of, posteriors_of_patient
from leukoscope.differential.sample import Sample


def compare(
    samples: Mapping[str, Sample],
    out: Path,
    *,
    one_patient: bool | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Set samples of one classifier side by side: a trend in their order, and each one's difference from the first.

    Shares and differences are of the patient, corrected, with 95 % intervals: of the leukocytes, as ``classify`` took
    the classes, and beside them of all cells counted. Samples of one patient, measured alike, are confused alike: what
    is not known of that is drawn for all of them together, and hardly blurs a difference. The draws of samples of
    several patients are taken as independent; they share what is not known of the classifier, so that the interval of a
    difference is, if anything, too wide.

    Args:
        samples: by name, in order; two at least.
        out: the run folder: ``results.json`` and ``tables/comparison.csv``, a row a sample and class.
        one_patient: whether the samples are of one patient, measured alike; None takes them to be where the tables of
            their cells name one patient and, if any, one batch.
        seed: of the posterior's draws.
        overwrite: replace what ``out`` holds.

    Returns:
        What ``results.json`` holds: whether they are of ``one_patient``, and ``rows`` with ``sample``, ``class``, ``n``
        and ``count`` of the cells counted, ``leukocytes`` (None for a class that is none) and ``cells``. Each of these
        two has ``share``, ``low``, ``high``, and for all but the first sample ``difference``, ``difference_low``,
        ``difference_high`` and ``p_above_first``, the posterior probability that the share is greater than in the
        first. In the table the columns are called ``leukocytes_share``, ``cells_share`` and so on.

    Raises:
        InputError: when there are fewer than two, they were called by different classifiers, or not the same classes
            were taken to be leukocytes.
    """
    refuse_folder(out, run_mark("compare"), overwrite=overwrite)
    if len(samples) < 2:
        raise InputError("compare: give two samples or more")
    first, *others = samples
    for name in others:
        if samples[name].classifier.fingerprint != samples[first].classifier.fingerprint:
            raise InputError(f"{name} was called by another classifier than {first}; classify them by one")
        if not np.array_equal(_leukocytes(samples[name]), _leukocytes(samples[first])):
            raise InputError(f"{name}: other classes were counted as leukocytes than in {first}; classify them alike")
    if one_patient is None:
        one_patient = _of_one_patient(samples.values())
        log.info("the samples are taken to be of %s", "one patient" if one_patient else "several patients")
    settings = {"samples": {name: str(sample.path) for name, sample in samples.items()}, "one_patient": one_patient}
    with run_folder(out, verb="compare", settings=settings, seed=seed, overwrite=overwrite) as run:
        drawn = dict(zip(samples, _posteriors(list(samples.values()), seed, together=one_patient), strict=True))
        rows = [row for name, sample in samples.items() for row in _rows(name, sample, drawn[name], drawn[first])]
        (run.path / "tables").mkdir()
        pd.json_normalize(rows, sep="_").to_csv(run.path / "tables" / "comparison.csv", index=False)
        results = {
            "samples": list(samples), "classes": list(samples[first].classes), "one_patient": one_patient, "rows": rows,
        }  # fmt: skip
        for name, sample in samples.items():
            run.fingerprint(f"{name}.pixels", sample.info.pixels_fingerprint)
        run.finish(results)
    log.info("comparison %s: %d samples", out, len(samples))
    return results


def _posteriors(samples: list[Sample], seed: int, *, together: bool) -> list[Posterior]:
    answers = samples[0].classifier.info.answers
    counted = [sample.probabilities[sample.counted] for sample in samples]
    if together:
        return posteriors_of_patient(counted, answers, seed=seed)
    return [posterior_of(own, answers, seed=seed + place) for place, own in enumerate(counted)]


def _of_one_patient(samples: Iterable[Sample]) -> bool:
    """Whether the tables of their cells name one patient, and one batch where they name any."""
    cells = pd.concat([sample.features.cells for sample in samples])
    if "patient" not in cells.columns or cells["patient"].nunique(dropna=False) > 1 or cells["patient"].isna().any():
        return False
    return "batch" not in cells.columns or cells["batch"].nunique(dropna=False) == 1


def _leukocytes(sample: Sample) -> np.ndarray:
    """Which classes ``(K,)`` bool its count took to be leukocytes."""
    return np.array([row["leukocytes"] is not None for row in sample.differential["classes"].values()])


def _rows(name: str, sample: Sample, own: Posterior, first: Posterior) -> list[dict[str, Any]]:
    called, kinds = sample.predicted[sample.counted], _leukocytes(sample)
    among = own.among(kinds), first.among(kinds)
    rows = []
    for k, kind in enumerate(sample.classes):
        row: dict[str, Any] = {"sample": name, "class": kind, "n": len(called), "count": int((called == k).sum())}
        row["leukocytes"] = _share(*among, k, compared=own is not first) if kinds[k] else None
        row["cells"] = _share(own, first, k, compared=own is not first)
        rows.append(row)
    return rows


def _share(own: Posterior, first: Posterior, k: int, *, compared: bool) -> dict[str, float]:
    """The share of class k and, where it is compared, its difference from that in the first sample."""
    low, high = own.interval(k, of_patient=True)
    told = {"share": float(own.composition[:, k].mean()), "low": low, "high": high}
    if compared:
        apart = own.patient[:, k] - first.patient[:, k]
        ends = np.quantile(apart, [0.025, 0.975])
        told |= {
            "difference": told["share"] - float(first.composition[:, k].mean()),
            "difference_low": float(ends[0]),
            "difference_high": float(ends[1]),
            "p_above_first": float((apart > 0).mean()),
        }
    return told
