"""Run geomstats' learning algorithms on every space and backend; write the table of what works.

    python docs/make_algorithm_table.py

The cases are those of the tests (``tests/learning/cases.py``): an algorithm works if its answer has
the property that the case asks for. Each backend runs in a process of its own, all at a time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
BACKENDS = ("numpy", "autograd", "pytorch")

Outcomes = dict[str, dict[str, str]]

HEAD = """# Learning algorithms of geomstats

Every algorithm below gets our space unchanged. "Works" means more than that it runs: its answer has
a mathematical property that is checked, such as a vanishing gradient at a mean or the recovery of a
geodesic from points on it. The table is written by `docs/make_algorithm_table.py`, which runs the
cases of `tests/learning/cases.py` on all backends of geomstats ({backends}).

- **matrices**: `DLNObservableManifold(n, depth)`, points `(n, n)`;
- **layers**: `BalancedManifold(n, depth)`, points `(N, n, n)`;
- **flattened**: `space.flattened()`, points `(n * n,)` or `(N * n * n,)`, for algorithms that
  geomstats limits to vectors. `space.flattened(orthonormal=True)` gives tangent vectors as
  coordinates in a frame that is orthonormal in the metric, so that principal components and
  Gaussian processes measure in the metric and not in Frobenius norm.

Sizes are n = 2, N = 3 where nothing else is said; at n = 3, matrices have N = 3 and layers N = 2.
The same cases pass at 4 x 3 matrices of rank 2, at rank 1 and at infinite depth. There is one more
limit: geomstats reshapes vectors to square matrices (transform of TangentPCA, ToTangentSpace), so
that other shapes need the flattened view there.

"""

NOTES = """
Further limits of geomstats: RiemannianEM is written for the Poincaré ball and ExactPGA for spaces
of constant curvature.

A random start of `GeodesicRegression` is a Gaussian matrix: half the time it lies in another
component (the sign of det) than the data, and `DisconnectedPointsError` says so; for layers the
chance is one half for every layer. Its velocity is Gaussian too, as it is for a start at data: much
longer than data that are near each other need, it may lead out of the manifold
(`IncompleteGeodesicError`). Draw again, or start at the Fréchet mean.

The step of `method="riemannian"` doubles with every fifth success. The first step that is too long
should be taken back; instead, geomstats goes on with the loss and the gradient of the point that it
has just refused (`current_loss = loss; current_grad = grad` at the end of its loop in
`geodesic_regression.py`), returns the last point that it tried, and may never recover. It then ends
with a bad fit, even from the Fréchet start (2 of 8 samples of 20 noisy points, n = 3, N = 3), or
here with `IncompleteGeodesicError`. A smaller `init_step_size` alone only delays this; short
rounds, in which the step cannot grow too long, avoid it:

    model = GeodesicRegression(space, method="riemannian", initialization="frechet")
    model.set(init_step_size=0.05, max_iter=10).fit(times, points)
    model.initialization = "warm_start"
    for _ in range(7):
        model.fit(times, points)

Faster, and right from the Fréchet start on each of the 13 samples that were tried, is the other
method with derivatives instead of differences (also with the autograd or pytorch backend):

    GeodesicRegression(space, initialization="frechet").set(autodiff_jac=True)

`dln_manifolds.statistics.GeodesicRegression` needs no backend, fits layers, lower ranks and several
covariates too, and stops at a gradient of 1e-10 of the residuals:
[how to fit a geodesic](how_to/fit_a_geodesic.md).

`FrechetMean` stops at a squared gradient norm of `epsilon * dim` with `epsilon = 1e-4`: set
`epsilon` to get more digits, for example `FrechetMean(space).set(epsilon=1e-20, max_iter=100)`.

geomstats' `FrechetMean`, and so every estimator that holds one (nearest mean, K-means, tangent
PCA), can be pickled but not unpickled, on its own spaces too: `n_jobs=2` of scikit-learn's
`cross_val_score` dies, and `joblib.dump` writes what cannot be read. What works: joblib's
`parallel_config(backend="threading")`, tables of distances with `metric="precomputed"`, and
`dln_manifolds.storage.save` of the mean itself. `GridSearchCV` varies the `space__depth` of any of
them, and of the estimators in `dln_manifolds.statistics`.

All distances between many points: `metric.dist_pairwise(points, n_jobs=-1, progress=True)` solves
them in batches and gives the table that scikit-learn's algorithms take as `metric="precomputed"`,
many times faster than the single calls of the nearest neighbors above.
`examples/classify_networks.py` tells with it which task a network was trained on, and compares the
answer with those of the Frobenius and of the affine-invariant distance.
"""


def outcome(case: object, space: str, backend: str) -> str:
    """Run a case; say in a few words how it went."""
    limit = case.limit(space, backend)
    try:
        case.run(space)
    except Exception as error:
        if limit and not isinstance(error, AssertionError):
            return f"limit: {limit}"
        return f"FAILS: {type(error).__name__}: {error}"
    return "FAILS: a limit is gone" if limit else "works"


def run_here(backend: str) -> Outcomes:
    """Run all cases on the backend of this process, telling progress on standard error."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "learning")]
    from cases import CASES

    logging.disable()
    warnings.simplefilter("ignore")
    found: Outcomes = {}
    for number, case in enumerate(CASES, 1):
        print(f"{backend}: {number} of {len(CASES)}, {case.name}", file=sys.stderr, flush=True)
        found[case.name] = {space: outcome(case, space, backend) for space in case.spaces}
    return found


def run(backend: str) -> Outcomes:
    """Run all cases on a backend, in a child process."""
    process = subprocess.run(
        [sys.executable, __file__, "--backend", backend],
        env={**os.environ, "GEOMSTATS_BACKEND": backend},
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(process.stdout)


def failures(found: Outcomes) -> list[str]:
    """Return a line for every case that neither works nor is limited by geomstats."""
    return [
        f"{name}, {space}: {text}"
        for name, row in found.items()
        for space, text in row.items()
        if text.startswith("FAILS")
    ]


def cell(by_backend: dict[str, str], limits: list[str]) -> str:
    """Say in few words how a case went on all backends; limits go to the notes."""
    groups: dict[str, list[str]] = {}
    for backend, text in by_backend.items():
        kind, _, reason = text.partition(": ")
        if kind == "limit":
            if reason not in limits:
                limits.append(reason)
            text = f"limit {limits.index(reason) + 1}"
        groups.setdefault(text, []).append(backend)
    if len(groups) == 1:
        return next(iter(groups))
    parts = [f"{text} ({', '.join(backends)})" for text, backends in groups.items()]
    return "; ".join(sorted(parts, key=lambda part: not part.startswith("works")))


def table(outcomes: dict[str, Outcomes]) -> str:
    """Lay out the outcomes of all backends as a Markdown table, with its notes."""
    first = next(iter(outcomes.values()))
    spaces = list(dict.fromkeys(space for row in first.values() for space in row))
    lines = ["| algorithm | " + " | ".join(spaces) + " |", "| --- |" + " --- |" * len(spaces)]
    limits: list[str] = []
    for name, row in first.items():
        cells = [
            cell({b: found[name][space] for b, found in outcomes.items()}, limits)
            if space in row
            else ""
            for space in spaces
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "Limits of geomstats:", ""]
    lines += [f"{number}. {reason}." for number, reason in enumerate(limits, 1)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run one backend and print its outcomes, or all and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=BACKENDS, help="run one, print its outcomes as JSON")
    parser.add_argument("--output", type=Path, default=HERE / "algorithms.md")
    options = parser.parse_args()
    if options.backend:
        os.environ["GEOMSTATS_BACKEND"] = options.backend
        found = run_here(options.backend)
        print(json.dumps(found))
        sys.exit("\n".join(failures(found)) or 0)
    backends = [b for b in BACKENDS if b != "pytorch" or importlib.util.find_spec("torch")]
    with ThreadPoolExecutor() as pool:
        outcomes = dict(zip(backends, pool.map(run, backends), strict=True))
    text = HEAD.format(backends=", ".join(backends)) + table(outcomes) + NOTES
    options.output.write_text(text, encoding="utf-8")
    failed = [line for found in outcomes.values() for line in failures(found)]
    sys.exit("\n".join(failed) or 0)


if __name__ == "__main__":
    main()
