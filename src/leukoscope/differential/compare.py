from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.common.errors import InputError
from leukoscope.common.files import refuse_folder
from leukoscope.common.runs import log, run_folder, run_mark
from leukoscope.differential.posterior import Posterior, posterior_of
from leukoscope.differential.sample import Sample


def compare(samples: Mapping[str, Sample], out: Path, *, seed: int = 0, overwrite: bool = False) -> dict[str, Any]:
    """Set samples of one classifier side by side: a trend in their order, and each one's difference from the first.

    Shares and differences are of the patient, corrected, with 95 % intervals: of the leukocytes, as ``classify`` took
    the classes, and beside them of all cells counted. The draws of two samples are taken as
    independent; they share what is not known of the classifier, so that the interval of a difference is, if anything,
    too wide.

    Args:
        samples: by name, in order; two at least.
        out: the run folder: ``results.json`` and ``tables/comparison.csv``, a row a sample and class.
        seed: of the posterior's draws.
        overwrite: replace what ``out`` holds.

    Returns:
        What ``results.json`` holds: ``rows`` with ``sample``, ``class``, ``n`` and ``count`` of the cells counted,
        ``leukocytes`` (None for a class that is none) and ``cells``. Each of these two has ``share``, ``low``,
        ``high``, and for all but the first sample ``difference``, ``difference_low``, ``difference_high`` and
        ``p_above_first``, the posterior probability that the share is greater than in the first. In the table the
        columns are called ``leukocytes_share``, ``cells_share`` and so on.

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
    settings = {"samples": {name: str(sample.path) for name, sample in samples.items()}}
    with run_folder(out, verb="compare", settings=settings, seed=seed, overwrite=overwrite) as run:
        drawn = {name: _posterior(sample, seed + place) for place, (name, sample) in enumerate(samples.items())}
        rows = [row for name, sample in samples.items() for row in _rows(name, sample, drawn[name], drawn[first])]
        (run.path / "tables").mkdir()
        pd.json_normalize(rows, sep="_").to_csv(run.path / "tables" / "comparison.csv", index=False)
        results = {"samples": list(samples), "classes": list(samples[first].classes), "rows": rows}
        for name, sample in samples.items():
            run.fingerprint(f"{name}.pixels", sample.info.pixels_fingerprint)
        run.finish(results)
    log.info("comparison %s: %d samples", out, len(samples))
    return results


def _posterior(sample: Sample, seed: int) -> Posterior:
    return posterior_of(sample.probabilities[sample.counted], sample.classifier.info.answers, seed=seed)


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
