"""How many logs of Gaussian pairs are solved, and how well: every width and depth.

Each pair is solved in both directions. A pair ends well if it says so; its residual is measured by
exp, which steps along knowing the velocity only. What fails must say so by its status. The length
is compared with the rigorous lower bound, with the length backwards, and with the length of the
polar path, which is computed here without the package: matrix logarithm, the metric in the root
chart with its definition, and Gauss quadrature.
"""

from __future__ import annotations

import time

import _timing as timing  # before numpy: pins the threads
import numpy as np
import scipy.linalg
from _timing import Array

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geodesics import ObservableSystem

DEPTHS = (1.5, 2, 3, 4, 8, 30)
PAIRS = {2: 200, 3: 200, 5: 200, 8: 200, 10: 20, 20: 8}
QUICK_PAIRS = {2: 20, 3: 10, 5: 4}
HEADER = (
    "n",
    "N",
    "solved",
    "met a singular matrix",
    "not converged",
    "largest residual",
    "goal",
    "asymmetry",
    "bounds kept",
    "length / polar path",
    "time per log [ms]",
)
# What rounding may add to either side of an inequality between lengths, relative.
_SLACK = 1e-12


def polar_length(X: Array, Y: Array, depth: float, n_nodes: int = 64) -> float:
    """Length of the polar path between the roots of X and Y.

    The path is ``((1-t) S_0 + t S_1) O_0 exp(t L)`` with ``L = log(O_0^T O_1)``.
    """
    positive, orthogonal = [], []
    for matrix in (X, Y):
        U, s, Vt = np.linalg.svd(matrix)
        positive.append((U * s ** (1 / depth)) @ U.T)
        orthogonal.append(U @ Vt)
    generator = np.real(scipy.linalg.logm(orthogonal[0].T @ orthogonal[1]))
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    t = (nodes[:, None, None] + 1) / 2
    rotation = orthogonal[0] @ scipy.linalg.expm(t * generator)
    stretch = (1 - t) * positive[0] + t * positive[1]
    root = stretch @ rotation
    velocity = (positive[1] - positive[0]) @ rotation + root @ generator
    U, roots, Vt = np.linalg.svd(root)
    inside = np.swapaxes(U, -1, -2) @ velocity @ np.swapaxes(Vt, -1, -2)
    mirrored = np.swapaxes(inside, -1, -2)
    u = 0.5 * np.log(roots[:, :, None] / roots[:, None, :])
    small = np.abs(u) < 1e-9
    u = np.where(small, 1.0, u)
    kappa = np.where(small, depth, np.tanh(depth * u) / np.tanh(u))
    even, odd = (inside + mirrored) / 2, (inside - mirrored) / 2
    speed = np.sqrt(np.sum(kappa * even**2 + odd**2 / kappa, axis=(-2, -1)))
    return float(speed @ weights / 2)


def success_row(rng: np.random.Generator, n: int, depth: float, n_pairs: int) -> list[str]:
    """Solve the pairs of one width and depth."""
    metric = DLNObservableManifold(n, depth).metric
    X, Y = timing.gaussian_pairs(rng, n_pairs, n)
    began = time.process_time()
    there, back = metric.solve_log(Y, X), metric.solve_log(X, Y)
    elapsed = (time.process_time() - began) / (2 * n_pairs)
    good = there.success & back.success
    length = there.length[good]
    polar = np.array([polar_length(*pair, depth) for pair in zip(X[good], Y[good], strict=True)])
    kept = (there.lower_bound[good] <= length * (1 + _SLACK)) & (length <= polar * (1 + _SLACK))
    asymmetry = np.abs(back.length[good] / length - 1)
    worst = 0.0
    for solution, start, end in ((there, X, Y), (back, Y, X)):
        well = solution.success
        reached = metric.exp(solution.initial_velocity[well], start[well])
        worst = max(worst, timing.relative_distance(reached, end[well]).max(initial=0))
    return [
        str(n),
        f"{depth:g}",
        f"{int(there.success.sum())} of {n_pairs}",
        str(int((there.status == 1).sum())),
        str(int((there.status == 2).sum())),
        f"{worst:.1e}",
        f"{ObservableSystem(depth, (n, n), n).goal():.0e}",
        f"{asymmetry.max(initial=0):.0e}",
        f"{int(kept.sum())} of {len(length)}",
        f"{np.min(length / polar):.3f} to {np.max(length / polar):.3f}",
        timing.number(1e3 * elapsed),
    ]


def main() -> None:
    options = timing.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    pairs = QUICK_PAIRS if options.quick else PAIRS
    for n, n_pairs in pairs.items():
        rows = [success_row(rng, n, depth, n_pairs) for depth in DEPTHS]
        timing.print_table(f"log of Gaussian pairs, n = {n}", HEADER, rows)


if __name__ == "__main__":
    main()
