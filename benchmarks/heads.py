"""Linear probes of five folds by ten penalties: all together, against a loop over scikit-learn.

    python benchmarks/heads.py [--cells 5500] [--dimensions 512] [--classes 8] [--repeats 3] [--features FILE.h5ad]

Both sides minimise the same objective (multinomial log loss, L2 penalty, features standardised by the training cells)
at the same ten values of C to the same criterion: scikit-learn its default, no entry of the mean loss's gradient above
1e-4, and ours a 2-norm below 1e-3, which on these features leaves no entry above about 1e-4 either. The loop is timed
as scikit-learn comes and on two processes of one thread each; the faster counts. The bound is what the matrix products
of our iterations would take at the speed of a large product measured in the same run.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed, parallel_config
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from leukoscope.encoders.features import Features
from leukoscope.probes import softmax
from leukoscope.probes.head import Data
from leukoscope.probes.linear import LinearProbe


@dataclass(frozen=True)
class Task:
    """Features ``(N, D)`` float32, classes ``(N,)``, and five folds of training and test rows."""

    x: np.ndarray
    y: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]


def mixture(cells: int, dimensions: int, classes: int, seed: int = 0) -> Task:
    """Overlapping Gaussian classes of unequal size on a decaying spectrum, non-negative as pooled features are."""
    rng = np.random.default_rng(seed)
    shares = np.linspace(1, 2.7, classes)
    y = rng.choice(classes, cells, p=shares / shares.sum())
    spectrum = np.arange(1, dimensions + 1) ** -0.9
    means = rng.normal(size=(classes, dimensions)) * spectrum * (np.arange(dimensions) < 40) * 0.55
    # Cells differ in how far they stray, so that the classes are no exact Gaussians and no linear probe is perfect.
    stray = rng.gamma(4.0, 1 / 4.0, size=(cells, 1)) ** 0.5
    latent = means[y] + rng.normal(size=(cells, dimensions)) * spectrum * stray
    x = np.logaddexp(0, 4 * latent @ np.linalg.qr(rng.normal(size=(dimensions, dimensions)))[0])
    return _folded(x, y)


def of_file(path: Path) -> Task:
    """The labelled cells of a features file."""
    features = Features.read(path)
    known = features.cells["label"].notna().to_numpy()
    return _folded(features.x[known], features.cells.loc[known, "label"].astype("category").cat.codes.to_numpy())


def ours(task: Task, probe: LinearProbe) -> np.ndarray:
    """Accuracy ``(folds, penalties)`` of all probes, solved together."""
    data = Data(torch.from_numpy(task.x), torch.from_numpy(task.y), int(task.y.max()) + 1)
    heads = probe.solve(data, [train for train, _ in task.folds], [probe.C] * len(task.folds))
    return np.array(
        [
            [float((head.probabilities(data.x[test]).argmax(dim=1) == data.y[test]).float().mean()) for head in of_fold]
            for of_fold, (_, test) in zip(heads, task.folds, strict=True)
        ]
    )


def scikit_learn(task: Task, probe: LinearProbe, jobs: int) -> np.ndarray:
    """Accuracy ``(folds, penalties)`` of one LogisticRegression after another."""
    cases = [(train, test, c) for train, test in task.folds for c in probe.C]
    if jobs == 1:
        found = [_fit(task.x, task.y, *case) for case in cases]
    else:
        with parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
            found = Parallel()(delayed(_fit)(task.x, task.y, *case) for case in cases)
    return np.array(found).reshape(len(task.folds), len(probe.C))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=5500)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--features", type=Path)
    given = parser.parse_args()
    task = of_file(given.features) if given.features else mixture(given.cells, given.dimensions, given.classes)
    probe = LinearProbe()
    sides: dict[str, Callable[[], np.ndarray]] = {
        "ours": lambda: ours(task, probe),
        "scikit-learn, as it comes": lambda: scikit_learn(task, probe, 1),
        "scikit-learn, two processes": lambda: scikit_learn(task, probe, 2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    accuracy: dict[str, np.ndarray] = {}
    # In turn, so that what else the machine does falls on all sides.
    for _ in range(given.repeats):
        for name, side in sides.items():
            start = time.perf_counter()
            accuracy[name] = side()
            seconds[name].append(time.perf_counter() - start)
    _report(task, probe, {name: statistics.median(each) for name, each in seconds.items()}, accuracy)


def _report(task: Task, probe: LinearProbe, seconds: dict[str, float], accuracy: dict[str, np.ndarray]) -> None:
    n_cells, dimensions = task.x.shape
    print(f"{n_cells} cells, {dimensions} features, {task.y.max() + 1} classes, {torch.get_num_threads()} threads")
    for name, value in seconds.items():
        best = accuracy[name].mean(axis=0).max()
        print(f"{name:28} {value:8.2f} s   mean accuracy {accuracy[name].mean():.4f}, at its best C {best:.4f}")
    peers = [name for name in seconds if name != "ours"]
    fastest = min(peers, key=seconds.__getitem__)
    difference = 100 * (accuracy["ours"] - accuracy[fastest]).mean(axis=0)
    print(f"ratio to the faster loop {seconds[fastest] / seconds['ours']:.1f} (at least 10)")
    print(
        f"mean accuracy differs by {abs(difference.mean()):.3f} points (at most 0.2), "
        f"at one C by {abs(difference).max():.3f}"
    )
    bound, rate = _bound(task, probe)
    print(
        f"bound {bound:.2f} s: the products alone at {rate / 1e9:.0f} GFLOP/s; "
        f"ours takes {seconds['ours'] / bound:.1f} times that"
    )


def _bound(task: Task, probe: LinearProbe) -> tuple[float, float]:
    """Seconds that the products with the cells take at the speed of a large product, and that speed in FLOP/s."""
    columns: list[int] = []
    plain = softmax.SoftmaxRegressions._advance

    def counting(self: softmax.SoftmaxRegressions, now: softmax._Open) -> torch.Tensor:
        columns.append(len(now.number))
        return plain(self, now)

    softmax.SoftmaxRegressions._advance = counting  # type: ignore[method-assign]
    ours(task, probe)
    softmax.SoftmaxRegressions._advance = plain  # type: ignore[method-assign]
    square = torch.randn(2048, 2048)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        square @ square
        times.append(time.perf_counter() - start)
    rate = 2 * 2048**3 / min(times)
    return sum(columns) * 4 * task.x.size * (int(task.y.max()) + 1) / rate, rate


def _fit(x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, c: float) -> float:
    scaler = StandardScaler().fit(x[train])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=c, max_iter=10_000).fit(scaler.transform(x[train]), y[train])
    return float(model.score(scaler.transform(x[test]), y[test]))


def _folded(x: np.ndarray, y: np.ndarray) -> Task:
    splits = StratifiedKFold(5, shuffle=True, random_state=0).split(x, y)
    return Task(np.ascontiguousarray(x, dtype=np.float32), y.astype(np.int64), list(splits))


if __name__ == "__main__":
    main()
