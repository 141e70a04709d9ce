"""Matrix completion by deep linear networks: balanced layers against free ones and a known rank.

A 30 x 30 matrix of rank 5 is completed from 60 % of its entries, seen with noise. pymanopt's
TrustRegions and ConjugateGradient train the same cost from the same balanced layers, on
BalancedManifold and on Euclidean(N, 30, 30). FixedRankEmbedded is told the rank. It cannot start at
the same matrix, whose singular values are equal (its gradient divides by their differences): it
starts as usual, at the truncated singular value decomposition of the data with zeros in place of
hidden entries. It has no Hessian, so no TrustRegions.

TrustRegions takes its radius from a manifold's typical distance: n for BalancedManifold(n, N),
sqrt(N) n for Euclidean(N, n, n). Free layers are therefore trained twice, also with the radius of
the balanced ones. Counts of iterations are chaotic, hence many matrices and standard errors. Two
other problems, of 20 x 20 matrices of rank 3, show whether what is found is general: sensing by
half as many random measurements as entries, and regression with fewer samples than inputs.
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
from dln_manifolds.geometry.balancing import end_to_end, relative_imbalance

N_ROWS, RANK, NOISE, SEEN = 30, 5, 0.01, 0.6
DEPTHS = (2, 3, 4)
# Singular values of the end-to-end matrix that training starts from.
START = 0.01
# Gradient norm that nearly all runs reach.
HALFWAY = 1e-3
HEADER = (
    "N",
    "solver",
    "layers",
    "iterations",
    f"to gradient {HALFWAY:g}",
    "converged",
    "error of hidden entries",
    "imbalance on the way",
    "time [s]",
)
HESSIAN_HEADER = ("N", "derivatives", "balanced [ms]", "free [ms]", "ratio (range)", "bar")


class Data:
    """A matrix of low rank, the loss, and the start."""

    def __init__(self, seed: int, n: int = N_ROWS, rank: int = RANK) -> None:
        self.rng = np.random.default_rng(seed)
        left, right = self.rng.normal(size=(2, n, rank))
        self.n, self.target = n, left @ right.T / np.sqrt(rank)
        self.hidden = np.ones((n, n), dtype=bool)
        self.loss = self.make_loss()
        self.frames = np.linalg.qr(self.rng.normal(size=(max(DEPTHS) + 1, n, n)))[0]

    def make_loss(self) -> costs.Cost:
        """Complete the matrix from its entries that are seen."""
        count = self.target.size
        self.seen = (self.rng.permutation(count) < SEEN * count).reshape(self.target.shape)
        self.noisy = self.target + NOISE * self.rng.normal(size=self.target.shape)
        self.hidden = ~self.seen
        return costs.MatrixCompletion(self.noisy, self.seen)

    def start(self, depth: int) -> Array:
        """Balanced layers with equal roots and random frames."""
        frames = self.frames[: depth + 1]
        return START ** (1 / depth) * frames[1:] @ np.swapaxes(frames[:-1], 1, 2)

    def hidden_error(self, point: Array) -> float:
        """Relative error of the entries that were not seen, against the matrix without noise."""
        error = np.linalg.norm((point - self.target)[self.hidden])
        return float(error / np.linalg.norm(self.target[self.hidden]))


class Sensing(Data):
    """A matrix seen through half as many random measurements as it has entries."""

    def make_loss(self) -> costs.Cost:
        count = self.target.size // 2
        operators = self.rng.normal(size=(count, self.n, self.n)) / np.sqrt(count)
        exact = np.tensordot(operators, self.target, 2)
        return costs.MatrixSensing(operators, exact + NOISE * self.rng.normal(size=count))


class Regression(Data):
    """A matrix seen through what it makes of fewer samples than inputs."""

    def make_loss(self) -> costs.Cost:
        inputs = self.rng.normal(size=(self.n * 7 // 10, self.n))
        outputs = inputs @ self.target.T
        return costs.LinearRegression(inputs, outputs + NOISE * self.rng.normal(size=outputs.shape))


class Watch:
    """Notes the worst imbalance on a solver's way, and its iterations to a gradient norm.

    To be passed as preconditioner, which solvers call with the gradient as they begin an iteration.
    """

    def __init__(self) -> None:
        self.worst, self.calls, self.halfway = 0.0, 0, np.inf
        self.latest: tuple[Array, Array] | None = None

    def __call__(self, point: Array, vector: Array) -> Array:
        if self.latest is None or point is not self.latest[0]:
            self.latest = point, vector
            self.worst = max(self.worst, float(relative_imbalance(point)))
            if np.linalg.norm(vector) <= HALFWAY:
                self.halfway = min(self.halfway, self.calls)
        # Rejected steps are iterations too: trust regions begin anew with the same gradient.
        self.calls += vector is self.latest[1]
        return vector


def make_optimizer(name: str) -> TrustRegions | ConjugateGradient:
    kind, limit = {"trust": (TrustRegions, 300), "conjugate": (ConjugateGradient, 1000)}[name]
    return kind(verbosity=0, max_iterations=limit, min_gradient_norm=1e-6, max_time=600)


def train(data: Data, depth: int, solver: str, layers: str) -> tuple[float, ...]:
    """Return iterations, those to half way, convergence, hidden error, imbalance and time."""
    manifold = BalancedManifold(data.n, depth)
    options = {}
    if solver == "trust" and layers == "free, radius of balanced":
        options = {"Delta_bar": manifold.typical_dist}
    if layers != "balanced":
        manifold = Euclidean(depth, data.n, data.n)
    watch = Watch()
    problem = pymanopt_problem(manifold, costs.OfLayers(data.loss), preconditioner=watch)
    begin = timing.time.process_time()
    result = make_optimizer(solver).run(problem, initial_point=data.start(depth), **options)
    seconds = timing.time.process_time() - begin
    watch(result.point, problem.riemannian_gradient(result.point))
    return (
        result.iterations,
        watch.halfway,
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
    return result.iterations, np.inf, result.gradient_norm <= 1e-6, error, np.nan, seconds


def counts(values: Array) -> str:
    """Format mean and standard error, and the range."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{values.mean():.1f} +- {error:.1f} ({values.min():.0f} to {values.max():.0f})"


def row(depth: int, solver: str, layers: str, runs: list[tuple[float, ...]]) -> list[str]:
    iterations, halfway, converged, errors, imbalances, seconds = np.array(runs).T
    missing = int(np.isinf(halfway).sum())
    if solver == "known":
        way = ""
    elif missing:
        way = f"median {np.median(halfway):.0f}, {missing} never"
    else:
        way = counts(halfway)
    return [
        str(depth) if depth else "",
        "TrustRegions" if solver == "trust" else "ConjugateGradient",
        layers,
        counts(iterations),
        way,
        f"{int(converged.sum())} of {len(runs)}",
        f"{np.median(errors):.3f} ({errors.min():.3f} to {errors.max():.3f})",
        "" if np.isnan(imbalances).any() else f"{imbalances.max():.1e}",
        timing.number(np.median(seconds)),
    ]


LAYERS = ("balanced", "free", "free, radius of balanced")


def trust_regions(data: list[Data]) -> list[list[str]]:
    """Train by trust regions, one row for each depth and kind of layers."""
    return [
        row(depth, "trust", layers, [train(one, depth, "trust", layers) for one in data])
        for depth in DEPTHS
        for layers in LAYERS
    ]


def conjugate_gradients(data: list[Data]) -> list[list[str]]:
    """Do the same by conjugate gradients; last, train matrices of the right rank."""
    rows = [
        row(depth, "conjugate", layers, [train(one, depth, "conjugate", layers) for one in data])
        for depth in DEPTHS
        for layers in LAYERS[:2]
    ]
    rows.append(row(0, "known", "none, rank 5 known", [train_fixed_rank(one) for one in data]))
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
    first = options.seed
    for name, kind, count, size, rank in (
        ("Completion", Data, 25, N_ROWS, RANK),
        ("Sensing", Sensing, 12, 20, 3),
        ("Regression", Regression, 12, 20, 3),
    ):
        count = 2 if options.quick else count
        data = [kind(seed, size, rank) for seed in range(first, first + count)]
        timing.print_table(f"{name}, {count} matrices", HEADER, trust_regions(data))
    count = 2 if options.quick else 5
    data = [Data(seed) for seed in range(first, first + count)]
    timing.print_table(f"Completion, {count} matrices", HEADER, conjugate_gradients(data))


if __name__ == "__main__":
    main()
