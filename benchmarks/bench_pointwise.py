"""The metric and the volumes at given points, against singular value decompositions of them.

Accuracy is against the definitions: for 3 x 3, the sum of the metric in 50 digits; for n = 200, the
squared Frobenius norm of the horizontal lift to explicit layers.
"""

from __future__ import annotations

import _timing as timing  # before numpy: pins the threads
import mpmath
import numpy as np
from _timing import Array

from dln_manifolds import DLNObservableManifold

DEPTH = 4
HEADER = ("call", "points", "time [ms]", "SVD [ms]", "ratio (range)", "bar", "relative error")


def literal_metric(point: Array, vec_a: Array, vec_b: Array, depth: int) -> float:
    """``tr(Z^T A_X^{-1} Z')`` with ``A_X`` summed and inverted in 50 digits."""
    with mpmath.workdps(50):
        X = mpmath.matrix(point)
        n = X.rows
        U, s, Vt = mpmath.svd_r(X)

        def power(frame: mpmath.matrix, exponent: float) -> mpmath.matrix:
            return frame * mpmath.diag([value**exponent for value in s]) * frame.T

        total = mpmath.zeros(n * n)
        for p in range(1, depth + 1):
            left = power(U, mpmath.mpf(2 * (depth - p)) / depth)
            right = power(Vt.T, mpmath.mpf(2 * (p - 1)) / depth)
            for i, j, k, m in np.ndindex(n, n, n, n):
                total[i * n + j, k * n + m] += left[i, k] * right[m, j]
        covector = mpmath.lu_solve(total, mpmath.matrix(vec_b.ravel()))
        return float(mpmath.fdot(mpmath.matrix(vec_a.ravel()), covector))


def literal_log_volumes(point: Array, depth: int) -> tuple[float, float]:
    """Entropy and log density of the metric by their product formulas, in 50 digits."""
    with mpmath.workdps(50):
        n = len(point)
        s = list(mpmath.svd_r(mpmath.matrix(point), compute_uv=False))
        squares = [value ** (mpmath.mpf(2) / depth) for value in s]
        pairs = mpmath.fsum(
            mpmath.log((s[i] ** 2 - s[j] ** 2) / (squares[i] - squares[j]))
            for i in range(n)
            for j in range(i + 1, n)
        )
        diagonal = mpmath.fsum(
            mpmath.log(depth * v**2 / q) for v, q in zip(s, squares, strict=True)
        )
        group = mpmath.mpf(n * (n - 1)) / 4 * mpmath.log(2) + mpmath.fsum(
            mpmath.log(2 * mpmath.pi ** (mpmath.mpf(k) / 2) / mpmath.gamma(mpmath.mpf(k) / 2))
            for k in range(1, n + 1)
        )
        return float((depth - 1) * group + pairs / 2), float(-diagonal / 2 - pairs)


def small(rng: np.random.Generator, n_points: int, repeats: int, n_checked: int) -> list[list[str]]:
    """Batches of 3 x 3 matrices."""
    space = DLNObservableManifold(n=3, depth=DEPTH)
    X, A, B = rng.normal(size=(3, n_points, 3, 3))
    checked = range(n_checked)
    product = space.metric.inner_product(A, B, X)
    exact = np.array([literal_metric(X[k], A[k], B[k], DEPTH) for k in checked])
    # Relative to the lengths: the product itself may nearly vanish.
    lengths = space.metric.norm(A, X)[:n_checked] * space.metric.norm(B, X)[:n_checked]
    volumes = np.array([literal_log_volumes(X[k], DEPTH) for k in checked])
    calls = {
        "inner_product": (
            lambda: space.metric.inner_product(A, B, X),
            np.max(np.abs(product[:n_checked] - exact) / lengths),
            3.0,
        ),
        "entropy": (
            lambda: space.entropy(X),
            np.max(np.abs(space.entropy(X[:n_checked]) / volumes[:, 0] - 1)),
            None,
        ),
        "log_volume_density": (
            lambda: space.metric.log_volume_density(X),
            np.max(np.abs(space.metric.log_volume_density(X[:n_checked]) / volumes[:, 1] - 1)),
            None,
        ),
    }
    return [
        row(name, f"{n_points} of 3 x 3", call, lambda: np.linalg.svd(X), error, bar, repeats)
        for name, (call, error, bar) in calls.items()
    ]


def large(rng: np.random.Generator, n: int, repeats: int) -> list[list[str]]:
    """One matrix, large enough for the decomposition to dominate."""
    space = DLNObservableManifold(n=n, depth=DEPTH)
    X, Z, exact = timing.horizontal_image(rng, rng.normal(size=(n, n)), DEPTH)
    Y = rng.normal(size=(n, n))
    error = abs(float(space.metric.inner_product(Z, Z, X)) / exact - 1)
    # The squares of singular values that differ little cancel in the formula, hence long doubles.
    s = np.linalg.svd(X, compute_uv=False).astype(np.longdouble)
    i, j = np.triu_indices(n, 1)
    root = s ** (np.longdouble(2) / DEPTH)
    pairs = np.sum(np.log((s[i] ** 2 - s[j] ** 2) / (root[i] - root[j])))
    density = -pairs - 0.5 * np.sum(np.log(DEPTH * s**2 / root))
    density_error = abs(float(space.metric.log_volume_density(X) / density - 1))

    calls = {
        "inner_product": (lambda: space.metric.inner_product(Z, Y, X), error, 1.5),
        "log_volume_density": (lambda: space.metric.log_volume_density(X), density_error, None),
    }
    return [
        row(name, f"1 of {n} x {n}", call, lambda: np.linalg.svd(X), error, bar, repeats)
        for name, (call, error, bar) in calls.items()
    ]


def row(
    name: str,
    where: str,
    call: timing.Call,
    svd: timing.Call,
    error: float,
    bar: float | None,
    repeats: int,
) -> list[str]:
    """Time one call against the decomposition."""
    ratio = timing.interleaved(call, svd, repeats=repeats)
    return [name, where, *ratio.cells(at_most=bar), f"{error:.1e}"]


def main() -> None:
    options = timing.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    repeats = 5 if options.quick else 25
    rows = small(rng, 1000 if options.quick else 10_000, repeats, n_checked=5)
    rows += large(rng, 50 if options.quick else 200, repeats)
    timing.print_table(f"Pointwise quantities, N = {DEPTH}", HEADER, rows)


if __name__ == "__main__":
    main()
