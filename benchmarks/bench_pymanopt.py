"""pymanopt's NelderMead on both manifolds, against its own SPD matrices of the same size.

Both minimize the squared distance from one matrix, with as many iterations from random points. The
manifolds here have more dimensions, so that a simplex has more vertices and an iteration more
distances. The error is that of the chord, in place of the geodesic, for pairs half a unit apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _timing as timing  # before numpy: pins the threads
import numpy as np
import pymanopt
from _timing import Array
from pymanopt.manifolds import SymmetricPositiveDefinite
from pymanopt.optimizers import NelderMead

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.geometry.chord import chord_length
from dln_manifolds.geometry.frame import Frame

HEADER = (
    *("on", "dim", "iterations (SPD)", "evaluations (SPD)"),
    *("time [ms]", "on SPD(n) [ms]", "ratio (range)", "bar", "error of a chord"),
)


def product(layers: Array) -> Array:
    return np.linalg.multi_dot([*layers[::-1], np.eye(layers.shape[-1])])


def problem(manifold: Any, n: int) -> pymanopt.Problem:
    """The squared distance from a positive definite matrix."""
    target = np.diag(np.linspace(1.2, 1.8, n)) + 0.1

    @pymanopt.function.numpy(manifold)
    def cost(point: Array) -> float:
        return float(np.sum(((product(point) if point.ndim == 3 else point) - target) ** 2))

    return pymanopt.Problem(manifold, cost)


def runs(manifold: Any, n: int, options: Any, found: dict[str, int]) -> Callable[[], None]:
    """A call that runs NelderMead, always from the same points, and notes its evaluations."""
    minimized = problem(manifold, n)

    def run() -> None:
        np.random.seed(options.seed)
        solver = NelderMead(verbosity=0, max_iterations=5 if options.quick else 30)
        result = solver.run(minimized)
        found.update(iterations=result.iterations, evaluations=result.cost_evaluations)

    return run


def chord_error(manifold: Any) -> float:
    """Relative error of the chord's length, the largest of 20 pairs."""
    errors = []
    for _ in range(20):
        point = manifold.random_point()
        end = manifold.exp(point, 0.5 * manifold.random_tangent_vector(point))
        if len(manifold.shape) == 3:
            length = np.linalg.norm(end - point)
        else:
            length = chord_length(*(Frame.of_point(x, manifold.depth) for x in (point, end)))
        errors.append(abs(length / manifold.dist(point, end) - 1))
    return float(max(errors))


def main() -> None:
    options = timing.arguments(__doc__)
    rows = []
    for n, depth in ((2, 2), (3, 4)):
        spd: dict[str, int] = {}
        theirs = runs(SymmetricPositiveDefinite(n), n, options, spd)
        for manifold in (DLNObservableManifold(n, depth), BalancedManifold(n, depth)):
            found: dict[str, int] = {}
            ours = runs(manifold, n, options, found)
            ratio = timing.interleaved(ours, theirs, repeats=3 if options.quick else 9, at_least=0)
            np.random.seed(options.seed)
            counts = [f"{found[kind]} ({spd[kind]})" for kind in ("iterations", "evaluations")]
            error = f"{chord_error(manifold):.1e}"
            cells = ratio.cells(at_most=10)
            rows.append([repr(manifold), str(manifold.dim), *counts, *cells, error])
    timing.print_table("NelderMead, the same number of iterations", HEADER, rows)


if __name__ == "__main__":
    main()
