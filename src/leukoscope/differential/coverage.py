"""Whether the intervals of a differential cover what they name, on samples whose composition is known."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from leukoscope.cells.composition import Compositions, PatientType
from leukoscope.cells.groups import resolve_group
from leukoscope.cells.labels import Labels
from leukoscope.common.errors import InputError
from leukoscope.common.files import refuse_folder
from leukoscope.common.progress import progress
from leukoscope.common.runs import log, run_folder, run_mark
from leukoscope.differential.adjusted import adjusted_proportions, em_proportions
from leukoscope.differential.audited import audited_count
from leukoscope.differential.classifier import Classifier, HeadName
from leukoscope.differential.fit import fit
from leukoscope.differential.pools import Dealt, Pool, WholePatients
from leukoscope.differential.posterior import posterior_of
from leukoscope.encoders.features import Features
from leukoscope.probes.crossval import ProbeSettings
from leukoscope.probes.evaluated import labels_of_cells
from leukoscope.scores.summary import number_or_none

_ESTIMATES = ("raw", "corrected", "adjusted", "em")
# Fewer than a count takes: the ends of one interval are less exact, and their mean over samples is not.
_CHAINS = 24
_WHOLE = "whole patients"
# So many times a sample's cells stand for the patient's blood: a sample of them is nearly one of an endless number.
_OF_A_SAMPLE = 10
_INTERVALS = ("wilson", "composition", "patient", "audited_composition", "audited_patient")


def coverage(
    features: Features,
    out: Path,
    compositions: Compositions,
    *,
    types: Sequence[str] = ("healthy",),
    shifted: Features | None = None,
    whole: Features | None = None,
    head: HeadName | Literal["best"] = "linear",
    label: str = "label",
    overlay: Labels | None = None,
    group: str | None = None,
    sizes: Sequence[int] = (200, 500, 2000),
    samples: int = 2000,
    splits: int = 20,
    train_share: float = 0.5,
    audit: int = 100,
    seed: int = 0,
    settings: ProbeSettings | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Draw samples of known composition from labelled cells, count them, and see how often the intervals cover.

    Again and again the cells are dealt in two: a classifier is fitted on the one part, and patients' samples are drawn
    from the other, whose cells it has never seen. Each patient has proportions drawn within the ranges of its type.

    A sample so drawn mixes the cells of many patients, whose oddities cancel out. Whether intervals cover in a new
    patient, whose cells are all a little odd in one way, only ``whole`` samples tell.

    Args:
        features: of labelled cells.
        out: the run folder: ``results.json`` and ``tables/coverage.csv``, a row for each condition, size and class.
        compositions: what patients are made of, in per cent by class.
        types: of patients, which take turns.
        shifted: features by the same encoder of labelled cells of another stain or instrument, to draw samples from
            as well; those of images that the classifier learned from are left out.
        whole: features by the same encoder of labelled cells of whole patients, each of whom is a sample, but those
            whom the classifier learned from: as many of its cells as asked for, or all of them where patients have
            fewer. The share of a class in the patient is that of all cells, where they are ten times the sample's or
            more, and else not known.
        head: of the classifier.
        label: the column that holds the class.
        overlay: labels laid over the table instead.
        group: a column whose cells stay on one side; None takes ``patient`` or else ``slide``.
        sizes: cells of a sample.
        samples: for each size and condition.
        splits: how often the cells are dealt; samples are spread over them.
        train_share: of the cells, to fit on.
        audit: cells of a sample that a person is taken to have looked at, drawn at random.
        seed: of everything.
        settings: of the head.
        overwrite: replace what ``out`` holds.

    Returns:
        What ``results.json`` holds: ``rows``, of ``tables/coverage.csv``, and ``summary`` by condition and size.

    Raises:
        InputError: when labels are missing or too few, a type names kinds that are no class, or it is not known whose
            the cells of ``whole`` are.
    """
    refuse_folder(out, run_mark("coverage"), overwrite=overwrite)
    labels = labels_of_cells(features.cells, label=label, overlay=overlay)
    classes = sorted({name for name in labels if name is not None})
    patients = _patients(compositions, types, classes)
    own = None
    if whole is not None:
        own = WholePatients.of(whole, labels_of_cells(whole.cells, label=label, overlay=overlay), group)
    group = resolve_group(features.cells, group)
    elsewhere = None if shifted is None else (shifted, labels_of_cells(shifted.cells, label=label, overlay=overlay))
    recipe = {
        "types": list(types), "head": head, "group": group, "sizes": list(sizes), "samples": samples,
        "splits": splits, "train_share": train_share, "audit": audit,
    }  # fmt: skip
    with run_folder(out, verb="coverage", settings=recipe, seed=seed, overwrite=overwrite) as run:
        tallies = defaultdict[tuple[str, int], list[pd.DataFrame]](list)
        least = dict[str, np.ndarray]()
        with progress("coverage", splits, "splits") as advance:
            for number in range(splits):
                dealt = Dealt.of(
                    (features, labels), elsewhere, train_share=train_share, group=group, seed=seed + number
                )
                classifier = _fitted(*dealt.training, head, group, seed, settings)
                pools = {condition: Pool.of(classifier, *cells) for condition, cells in dealt.unseen.items()}
                for condition, pool in pools.items():
                    held = np.bincount(pool.y, minlength=len(classes))
                    least[condition] = np.minimum(least.get(condition, held), held)
                of_split = [patients[one % len(patients)] for one in range(number, samples, splits)]
                for place, (condition, n) in enumerate(product(pools, sizes)):
                    rng = np.random.default_rng([seed, number, place])
                    tallies[condition, n] += [
                        _judge(
                            classifier, *_drawn(pools[condition], compositions, patient, n, classes, rng), audit, rng
                        )
                        for patient in of_split
                    ]
                if own is not None:
                    rng = np.random.default_rng([seed, number, len(pools) * len(sizes)])
                    for p, truth in own.unseen(classifier, dealt.training[0], group, rng):
                        for n in own.sizes(sizes):
                            share = _share(truth, len(classes)) if _OF_A_SAMPLE * n <= len(truth) else None
                            tallies[_WHOLE, n].append(_judge(classifier, p[:n], truth[:n], share, audit, rng))
                advance(1)
        rows = pd.DataFrame(_summarised(tallies, least)).astype({"pool": "Int64"})
        _warn_of_small_pools(rows)
        (run.path / "tables").mkdir()
        rows.to_csv(run.path / "tables" / "coverage.csv", index=False)
        results = {
            "classes": classes,
            "rows": rows.astype(object).where(rows.notna(), None).to_dict("records"),
            "summary": _over_classes(rows),
        }
        run.fingerprint("pixels", str(features.uns.get("pixels_fingerprint", "")))
        run.finish(results)
    log.info("coverage %s: %d samples a size, %d splits", out, samples, splits)
    return results


def _patients(compositions: Compositions, types: Sequence[str], classes: list[str]) -> list[PatientType]:
    """The types of patients by name, whose kinds are all classes."""
    patients = [compositions.parse(text, classes) for text in types]
    for patient in patients:
        lacking = [kind for kind in compositions.kinds(patient) if kind not in classes]
        if lacking:
            raise InputError(f"{patient.name}: no cell is labelled {lacking[0]!r}; there are {', '.join(classes)}")
    return patients


def _fitted(
    training: Features,
    labels: np.ndarray,
    head: HeadName | Literal["best"],
    group: str | None,
    seed: int,
    settings: ProbeSettings | None,
) -> Classifier:
    known = Labels(pd.DataFrame({"cell_id": training.ids, "label": labels}).astype("string"))
    with tempfile.TemporaryDirectory() as folder:
        return fit(
            training, Path(folder) / "classifier", head=head, overlay=known, novelty=False, group=group or "none",
            seed=seed, settings=settings,
        )  # fmt: skip


def _drawn(
    pool: Pool, compositions: Compositions, patient: PatientType, n: int, classes: list[str], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One sample: what the classifier says of its cells ``(n, K)``, what they are ``(n,)``, and shares ``(K,)``."""
    amounts = compositions.draw(patient, rng)[1]
    share = np.array([amounts.get(name, 0.0) for name in classes]) / 100
    rows = rng.permutation(pool.sample(share / share.sum(), n, rng))
    return pool.probabilities[rows], pool.y[rows], share / share.sum()


def _judge(
    classifier: Classifier,
    probabilities: np.ndarray,
    truth: np.ndarray,
    share: np.ndarray | None,
    audit: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """One sample: by class the truth, the estimates, and whether each interval covers and how wide it is.

    Its cells are in random order. ``share`` ``(K,)`` is the patient's, None where it is not known.
    """
    info, n = classifier.info, len(truth)
    classes = info.classes
    predicted = probabilities.argmax(axis=1)
    counts = np.bincount(predicted, minlength=len(classes))
    posterior = posterior_of(probabilities, info.answers, seed=int(rng.integers(2**31)), chains=_CHAINS)
    drawn = np.arange(n) < audit
    audited = audited_count(probabilities, np.where(drawn, truth, -1), drawn)
    imaged = _share(truth, len(classes))
    told = pd.DataFrame({"class": classes, "imaged": imaged, "share": np.nan if share is None else share})
    told["raw"] = counts / n
    told["corrected"] = posterior.composition.mean(axis=0)
    told["adjusted"] = adjusted_proportions(counts, np.array(info.confusion))
    told["em"] = em_proportions(probabilities, np.array(info.prevalence))
    limits = {
        "wilson": [tuple(binomtest(int(each), n).proportion_ci(0.95, "wilson")) for each in counts],
        "composition": [posterior.interval(k, of_patient=False) for k in range(len(classes))],
        "patient": [posterior.interval(k, of_patient=True) for k in range(len(classes))],
        "audited_composition": [each.composition or (0.0, 1.0) for each in audited.classes],
        "audited_patient": [each.patient or (0.0, 1.0) for each in audited.classes],
    }
    for name, pairs in limits.items():
        low, high = np.array(pairs, dtype=np.float64).T
        named = told["imaged"] if name.endswith("composition") else told["share"]
        # Counts over n, which rounding may set apart.
        covers = (low - 1e-9 <= named) & (named <= high + 1e-9)
        told[f"{name}_covers"] = covers.astype(float).where(named.notna())
        told[f"{name}_width"] = high - low
    return told


def _share(truth: np.ndarray, n_classes: int) -> np.ndarray:
    """Of each class ``(K,)`` among cells."""
    share: np.ndarray = np.bincount(truth, minlength=n_classes) / len(truth)
    return share


def _warn_of_small_pools(rows: pd.DataFrame) -> None:
    """Tell where a sample needs more cells of a class than there are to draw from."""
    short = rows.assign(needed=rows["mean_share"] * rows["n"]).query("needed > pool")
    worst = short.assign(times=short["needed"] / short["pool"]).sort_values("times", ascending=False, kind="stable")
    for row in worst.drop_duplicates(["condition", "n"]).sort_index().to_dict("records"):
        log.warning(
            "%s, samples of %d: about %.0f cells of %s are drawn from %d, some again and again, so that what is odd of "
            "these by chance is in all samples; label more, or trust smaller samples",
            *(row[name] for name in ("condition", "n", "needed", "class", "pool")),
        )


def _summarised(
    tallies: dict[tuple[str, int], list[pd.DataFrame]], least: dict[str, np.ndarray]
) -> Iterator[dict[str, Any]]:
    """A row for each condition, size and class: mean errors, coverage and mean widths.

    ``pool`` is how many cells of the class samples were drawn from, the ``least`` ``(K,)`` of all divisions.
    """
    for (condition, n), judged in tallies.items():
        for k, (name, table) in enumerate(pd.concat(judged).groupby("class", sort=False)):
            row: dict[str, Any] = {"condition": condition, "n": n, "class": name, "samples": len(table)}
            row["pool"] = int(least[condition][k]) if condition in least else None
            row["mean_share"] = float(table["share"].fillna(table["imaged"]).mean())
            row |= {f"{each}_error": float((table[each] - table["imaged"]).abs().mean()) for each in _ESTIMATES}
            for each in _INTERVALS:
                row[f"{each}_coverage"] = float(table[f"{each}_covers"].mean())
                row[f"{each}_width"] = float(table[f"{each}_width"].mean())
            yield row


def _over_classes(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """By condition and size: errors summed over classes, and mean and least coverage."""
    found = []
    for _, table in rows.groupby(["condition", "n"], sort=False):
        row: dict[str, Any] = {"condition": table["condition"].iloc[0], "n": int(table["n"].iloc[0])}
        row |= {f"{each}_error": float(table[f"{each}_error"].sum()) for each in _ESTIMATES}
        for each in _INTERVALS:
            row[each] = {
                "mean": number_or_none(table[f"{each}_coverage"].mean()),
                "least": number_or_none(table[f"{each}_coverage"].min()),
            }
        found.append(row)
    return found
