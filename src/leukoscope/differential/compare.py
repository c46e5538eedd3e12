from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.common.errors import InputError
from leukoscope.common.files import refuse_folder
from leukoscope.common.runs import log, run_folder, run_mark
from leukoscope.differential.posterior import Posterior, composition_posterior
from leukoscope.differential.sample import Sample


def compare(samples: Mapping[str, Sample], out: Path, *, seed: int = 0, overwrite: bool = False) -> dict[str, Any]:
    """Set samples of one classifier side by side: a trend in their order, and each one's difference from the first.

    Shares and differences are of the patient, corrected, with 95 % intervals. The draws of two samples are taken as
    independent; they share what is not known of the classifier, so that the interval of a difference is, if anything,
    too wide.

    Args:
        samples: by name, in order; two at least.
        out: the run folder: ``results.json`` and ``tables/comparison.csv``, a row a sample and class.
        seed: of the posterior's draws.
        overwrite: replace what ``out`` holds.

    Returns:
        What ``results.json`` holds: ``rows`` with ``sample``, ``class``, ``n``, ``count``, ``share``, ``low``,
        ``high``, and for all but the first ``difference``, ``difference_low``, ``difference_high`` and
        ``p_above_first``, the posterior probability that the share is greater than in the first sample.

    Raises:
        InputError: when there are fewer than two, or they were called by different classifiers.
    """
    refuse_folder(out, run_mark("compare"), overwrite=overwrite)
    if len(samples) < 2:
        raise InputError("compare: give two samples or more")
    first, *others = samples
    for name in others:
        if samples[name].classifier.info != samples[first].classifier.info:
            raise InputError(f"{name} was called by another classifier than {first}; classify them by one")
    settings = {"samples": {name: str(sample.path) for name, sample in samples.items()}}
    with run_folder(out, verb="compare", settings=settings, seed=seed, overwrite=overwrite) as run:
        drawn = {name: _posterior(sample, seed + place) for place, (name, sample) in enumerate(samples.items())}
        rows = [row for name, sample in samples.items() for row in _rows(name, sample, drawn[name], drawn[first])]
        (run.path / "tables").mkdir()
        pd.DataFrame(rows).to_csv(run.path / "tables" / "comparison.csv", index=False)
        results = {"samples": list(samples), "classes": list(samples[first].classes), "rows": rows}
        for name, sample in samples.items():
            run.fingerprint(f"{name}.pixels", sample.info.pixels_fingerprint)
        run.finish(results)
    log.info("comparison %s: %d samples", out, len(samples))
    return results


def _posterior(sample: Sample, seed: int) -> Posterior:
    counts = np.bincount(sample.predicted[sample.counted], minlength=len(sample.classes))
    return composition_posterior(counts, np.array(sample.classifier.info.confusion), seed=seed)


def _rows(name: str, sample: Sample, own: Posterior, first: Posterior) -> list[dict[str, Any]]:
    called = sample.predicted[sample.counted]
    rows = []
    for k, kind in enumerate(sample.classes):
        low, high = own.interval(k, of_patient=True)
        row: dict[str, Any] = {"sample": name, "class": kind, "n": len(called), "count": int((called == k).sum())}
        row |= {"share": float(own.composition[:, k].mean()), "low": low, "high": high}
        if own is not first:
            apart = own.patient[:, k] - first.patient[:, k]
            ends = np.quantile(apart, [0.025, 0.975])
            row |= {
                "difference": row["share"] - float(first.composition[:, k].mean()),
                "difference_low": float(ends[0]),
                "difference_high": float(ends[1]),
                "p_above_first": float((apart > 0).mean()),
            }
        rows.append(row)
    return rows
