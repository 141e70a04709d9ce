"""Matrix completion by deep linear networks: balanced layers against free ones and a known rank.

A 30 x 30 matrix of rank 5 is completed from 60 % of its entries, seen with noise. pymanopt's
TrustRegions and ConjugateGradient train the same cost from the same balanced layers, on
BalancedManifold and on Euclidean(N, 30, 30). FixedRankEmbedded is told the rank. It cannot start at
the same matrix, whose singular values are equal (its gradient divides by their differences): it
starts as usual, at the truncated singular value decomposition of the data with zeros in place of
hidden entries. It has no Hessian, so no TrustRegions.

TrustRegions takes its radius from a manifold's typical distance: that of Euclidean(N, 30, 30) is
5.5 times that of BalancedManifold. Free layers are therefore trained twice, also with the radius of
the balanced ones.
"""

from __future__ import annotations

from functools import partial

import _timing as timing  # before numpy: pins the threads
import numpy as np
import pymanopt
from _timing import Array
from pymanopt.manifolds import Euclidean, FixedRankEmbedded
from pymanopt.optimizers import ConjugateGradient, TrustRegions

from dln_manifolds import BalancedManifold, costs, pymanopt_problem
from dln_manifolds.spectral.balanced import end_to_end, relative_imbalance

N_ROWS, RANK, NOISE, SEEN = 30, 5, 0.01, 0.6
DEPTHS = (2, 3, 4)
# Singular values of the end-to-end matrix that training starts from.
START = 0.01
HEADER = (
    "N",
    "solver",
    "layers",
    "iterations",
    "converged",
    "error of hidden entries",
    "imbalance on the way",
    "time [s]",
)
HESSIAN_HEADER = ("N", "derivatives", "balanced [ms]", "free [ms]", "ratio (range)", "bar")


class Data:
    """The matrix, its entries that are seen, and the start."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        left, right = rng.normal(size=(2, N_ROWS, RANK))
        self.target = left @ right.T / np.sqrt(RANK)
        count = N_ROWS**2
        self.seen = (rng.permutation(count) < SEEN * count).reshape(N_ROWS, N_ROWS)
        self.noisy = self.target + NOISE * rng.normal(size=self.target.shape)
        self.loss = costs.MatrixCompletion(self.noisy, self.seen)
        self.frames = np.linalg.qr(rng.normal(size=(max(DEPTHS) + 1, N_ROWS, N_ROWS)))[0]

    def start(self, depth: int) -> Array:
        """Balanced layers with equal roots and random frames."""
        frames = self.frames[: depth + 1]
        return START ** (1 / depth) * frames[1:] @ np.swapaxes(frames[:-1], 1, 2)

    def hidden_error(self, point: Array) -> float:
        """Relative error of the entries that were not seen, against the matrix without noise."""
        hidden = ~self.seen
        error = np.linalg.norm((point - self.target)[hidden])
        return float(error / np.linalg.norm(self.target[hidden]))


class Watch:
    """Notes the worst imbalance among the points that a solver visits."""

    worst = 0.0
    latest = None

    def __call__(self, point: Array, vector: Array) -> Array:
        """Serve as a preconditioner that does nothing: it is called at every point."""
        if point is not self.latest:
            self.latest = point
            self.worst = max(self.worst, float(relative_imbalance(point)))
        return vector


def make_optimizer(name: str) -> TrustRegions | ConjugateGradient:
    kind, limit = {"trust": (TrustRegions, 300), "conjugate": (ConjugateGradient, 1000)}[name]
    return kind(verbosity=0, max_iterations=limit, min_gradient_norm=1e-6, max_time=600)


def train(data: Data, depth: int, solver: str, layers: str) -> tuple[float, ...]:
    """Return iterations, whether converged, error of hidden entries, imbalance and time."""
    manifold = BalancedManifold(N_ROWS, depth)
    options = {}
    if solver == "trust" and layers != "free":
        options = {"Delta_bar": manifold.typical_dist}
    if layers != "balanced":
        manifold = Euclidean(depth, N_ROWS, N_ROWS)
    cost = costs.OfLayers(data.loss)
    watch = Watch()
    problem = pymanopt_problem(manifold, cost, preconditioner=watch)
    begin = timing.time.process_time()
    result = make_optimizer(solver).run(problem, initial_point=data.start(depth), **options)
    seconds = timing.time.process_time() - begin
    watch(result.point, result.point)
    return (
        result.iterations,
        result.gradient_norm <= 1e-6,
        data.hidden_error(end_to_end(result.point)),
        watch.worst,
        seconds,
    )


def train_fixed_rank(data: Data) -> tuple[float, ...]:
    """Do the same for matrices of the right rank."""
    manifold = FixedRankEmbedded(N_ROWS, N_ROWS, RANK)

    @pymanopt.function.numpy(manifold)
    def cost(u: Array, s: Array, vt: Array) -> float:
        return data.loss((u * s) @ vt)

    @pymanopt.function.numpy(manifold)
    def gradient(u: Array, s: Array, vt: Array) -> tuple[Array, Array, Array]:
        inner = data.loss.euclidean_gradient((u * s) @ vt)
        along = inner @ vt.T
        return along * s, np.sum(u * along, axis=0), s[:, None] * (u.T @ inner)

    u, s, vt = np.linalg.svd(data.noisy * data.seen / SEEN)
    problem = pymanopt.Problem(manifold, cost, euclidean_gradient=gradient)
    begin = timing.time.process_time()
    result = make_optimizer("conjugate").run(
        problem, initial_point=(u[:, :RANK], s[:RANK], vt[:RANK])
    )
    seconds = timing.time.process_time() - begin
    u, s, vt = result.point
    error = data.hidden_error((u * s) @ vt)
    return result.iterations, result.gradient_norm <= 1e-6, error, np.nan, seconds


def row(depth: int, solver: str, layers: str, runs: list[tuple[float, ...]]) -> list[str]:
    counts, converged, errors, imbalances, seconds = np.array(runs).T
    return [
        str(depth),
        {"trust": "TrustRegions", "conjugate": "ConjugateGradient"}[solver],
        layers,
        f"{np.median(counts):.0f} ({counts.min():.0f} to {counts.max():.0f})",
        f"{int(converged.sum())} of {len(runs)}",
        f"{np.median(errors):.3f} ({errors.min():.3f} to {errors.max():.3f})",
        "" if np.isnan(imbalances).any() else f"{imbalances.max():.1e}",
        timing.number(np.median(seconds)),
    ]


def completion(seeds: range) -> list[list[str]]:
    """Train everything, one row for each depth, solver and kind of layers."""
    rows = []
    data = [Data(seed) for seed in seeds]
    for depth in DEPTHS:
        for solver, kinds in (
            ("trust", ("balanced", "free", "free, radius of balanced")),
            ("conjugate", ("balanced", "free")),
        ):
            for layers in kinds:
                runs = [train(one, depth, solver, layers) for one in data]
                rows.append(row(depth, solver, layers, runs))
    runs = [train_fixed_rank(one) for one in data]
    rows.append(["", *row(0, "conjugate", "none, rank 5 known", runs)[1:]])
    return rows


def autograd_problem(manifold: object, data: Data, depth: int) -> pymanopt.Problem:
    """Return the problem as a user writes it who leaves derivatives to autograd."""
    weights, target = data.loss.weights, data.loss.target

    @pymanopt.function.autograd(manifold)
    def cost(W: Array) -> float:
        X = W[0]
        for p in range(1, depth):
            X = W[p] @ X
        return 0.5 * (weights * (X - target) ** 2).sum()

    return pymanopt.Problem(manifold, cost)


def plain_problem(manifold: object, data: Data, depth: int) -> pymanopt.Problem:
    """Return the problem with exact derivatives by pymanopt's own path."""
    cost, known = costs.OfLayers(data.loss), pymanopt.function.numpy(manifold)
    return pymanopt.Problem(
        manifold,
        known(lambda W: cost(W)),
        euclidean_gradient=known(lambda W: cost.euclidean_gradient(W)),
        euclidean_hessian=known(lambda W, V: cost.euclidean_hessian(W, V)),
    )


def hessians(repeats: int) -> list[list[str]]:
    """Time Riemannian Hessian-vector products against those of free layers."""
    rows = []
    data = Data(0)
    makers = {
        "pymanopt_problem": lambda m, d: pymanopt_problem(m, costs.OfLayers(data.loss)),
        "exact, through pymanopt.Problem": lambda m, d: plain_problem(m, data, d),
        "autograd": lambda m, d: autograd_problem(m, data, d),
    }
    for name, make in makers.items():
        for depth in DEPTHS:
            balanced, free = BalancedManifold(N_ROWS, depth), Euclidean(depth, N_ROWS, N_ROWS)
            W = balanced.random_point()
            V = balanced.random_tangent_vector(W)
            problems = make(balanced, depth), make(free, depth)
            ratio = timing.interleaved(
                *(partial(problem.riemannian_hessian, W, V) for problem in problems),
                repeats=repeats,
            )
            rows.append([str(depth), name, *ratio.cells(at_most=1.5)])
    return rows


def main() -> None:
    options = timing.arguments(__doc__)
    np.random.seed(options.seed)
    timing.print_table(
        "Hessian-vector products", HESSIAN_HEADER, hessians(5 if options.quick else 25)
    )
    seeds = range(options.seed, options.seed + (1 if options.quick else 5))
    timing.print_table(
        f"Completion, {len(seeds)} matrices: median (range)", HEADER, completion(seeds)
    )


if __name__ == "__main__":
    main()
