"""Projections onto the Jacobi sectors of balanced layers: cost in the depth, and against SVDs.

What a projection cannot avoid is one SVD and six products for each layer: its orthogonal factor,
the frame, and the vector into the frame and out of it.
"""

from __future__ import annotations

import _timing as timing  # before numpy: pins the threads
import numpy as np
from _timing import Array

from dln_manifolds import BalancedManifold

HEADER = ("projection", "of", "time [ms]", "against [ms]", "ratio (range)", "bar", "error")


def unavoidable(layers: Array, vector: Array) -> Array:
    """One SVD and six products for each layer."""
    left, _, right_t = np.linalg.svd(layers)
    turn = left @ right_t
    frame = turn @ left
    inside = np.swapaxes(frame, 1, 2) @ vector @ left
    return frame @ inside @ np.swapaxes(left, 1, 2)


def main() -> None:
    options = timing.arguments(__doc__)
    np.random.seed(options.seed)
    repeats = 5 if options.quick else 25
    n = 10 if options.quick else 30
    rows = []
    for name in ("horizontal_projection", "vertical_projection", "to_tangent"):
        calls, errors = [], []
        for depth in (64, 2):
            total = BalancedManifold(n, depth)
            layers = total.random_point()
            vector = np.random.normal(size=layers.shape)
            project = getattr(total, name)
            calls.append(lambda f=project, v=vector, w=layers: f(v, w))
            once = project(vector, layers)
            errors.append(np.linalg.norm(project(once, layers) - once) / np.linalg.norm(once))
        ratio = timing.interleaved(*calls, repeats=repeats)
        rows.append(
            [name, f"n = {n}, N = 64 / N = 2", *ratio.cells(at_most=40), f"{max(errors):.1e}"]
        )
    width = 30 if options.quick else 100
    total = BalancedManifold(width, 8)
    layers = total.random_point()
    vector = np.random.normal(size=layers.shape)
    for name in ("horizontal_projection", "vertical_projection", "to_tangent"):
        project = getattr(total, name)
        ratio = timing.interleaved(
            lambda f=project: f(vector, layers),
            lambda: unavoidable(layers, vector),
            repeats=repeats,
        )
        once = project(vector, layers)
        error = np.linalg.norm(project(once, layers) - once) / np.linalg.norm(once)
        where = f"n = {width}, N = 8 / SVDs and products"
        rows.append([name, where, *ratio.cells(at_most=3), f"{error:.1e}"])
    timing.print_table("Jacobi sectors; the error is that of idempotency", HEADER, rows)


if __name__ == "__main__":
    main()
